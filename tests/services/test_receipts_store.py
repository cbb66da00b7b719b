"""The receipts over SQLite and over a real PostgreSQL server: what is kept, for whom, in which order."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import structlog

from tests.receipts_samples import FACTS, PRIVATE, decision
from tests.services.receipts_bench import DATABASES, Connect, connector, note, reading, running
from weir.common.errors import ErrorCode, WeirError
from weir.router.receipts import writer
from weir.router.receipts.convert import Feedback, Outcome
from weir.router.receipts.database import Filter, check, walk
from weir.router.receipts.records import DecisionRecord
from weir.router.receipts.sqlite import SqliteDatabase
from weir.router.receipts.store import ReceiptStore, receipt

GOOD = Feedback(acceptable=True, score=None)


@pytest.fixture(params=DATABASES)
def connect(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Connect:
    return connector(request, tmp_path, monkeypatch)


async def refusal(store: ReceiptStore, decision_id: str, tenant: str) -> ErrorCode:
    with pytest.raises(WeirError) as caught:
        await store.label(decision_id, GOOD, tenant=tenant)
    return caught.value.code


async def test_decision_outcome_and_label_are_kept_over_a_restart(connect: Connect) -> None:
    async with running(connect(), at=5.0) as store:
        note(store, 1)
        store.finish("d1", Outcome("finished", "slm", completion_tokens=7, cost_usd=0.5, handovers=2))
        await store.label("d1", Feedback(acceptable=False, score=0.25, comment="too short"), tenant="t")
    async with running(connect()) as again:
        story = await again.find("d1")
    assert story is not None
    assert (story.decision.tier, story.decision.order, story.decision.at) == ("slm", ["slm", "hybrid"], 5.0)
    assert story.decision.case["estimates"]["slm"]["quality"] == 0.8
    assert story.decision.case["exclusions"] == {"frontier": "residency"}
    assert story.decision.bounds["complexity"] == 0.72
    assert story.decision.revisions == {"classifier": "r1", "policy": "p1"}
    assert story.decision.signals["language"] == "en"
    assert story.outcome is not None
    assert (story.outcome.outcome, story.outcome.completion_tokens, story.outcome.handovers) == (
        "finished",
        7,
        2,
    )
    assert [(label.acceptable, label.score, label.comment) for label in story.feedback] == [
        (False, 0.25, "too short")
    ]


async def test_case_and_bounds_come_back_as_they_were(connect: Connect) -> None:
    import msgspec

    from weir.router.case import Bounds, Case

    async with running(connect()) as store:
        note(store, 1)
        story = await store.find("d1")
    assert story is not None
    assert msgspec.convert(story.decision.case, Case, strict=False) == decision().case
    assert msgspec.convert(story.decision.bounds, Bounds) == decision().bounds


@pytest.mark.parametrize("decision_id", ["nobody", "zero\0byte", ""])
async def test_label_for_an_unknown_decision_is_refused(connect: Connect, decision_id: str) -> None:
    async with running(connect()) as store:
        note(store, 1)
        assert await refusal(store, decision_id, "t") is ErrorCode.UNKNOWN_DECISION


async def test_tenant_neither_labels_nor_finds_what_is_anothers(connect: Connect) -> None:
    async with running(connect()) as store:
        note(store, 1, tenant="one")
        note(store, 2, tenant="")
        assert await refusal(store, "d1", "two") is ErrorCode.UNKNOWN_DECISION
        assert await refusal(store, "d1", "") is ErrorCode.UNKNOWN_DECISION
        assert await refusal(store, "d2", "one") is ErrorCode.UNKNOWN_DECISION
        assert await store.find("d1", tenant="two") is None
        assert await store.find("d1", tenant="one") is not None
        assert await store.find("d1") is not None
        assert [item async for item in store.read(tenant="two")] == []


async def test_comment_is_dropped_where_no_content_may_be_kept(connect: Connect) -> None:
    async with running(connect()) as store:
        store.record(decision(), PRIVATE, request_id="r", tenant="t")
        await store.label("d1", Feedback(acceptable=True, score=None, comment="secret"), tenant="t")
        story = await store.find("d1")
    assert story is not None
    assert story.decision.no_store
    assert [label.comment for label in story.feedback] == [""]


async def test_pending_writes_are_flushed_at_close_in_one_unbroken_chain(connect: Connect) -> None:
    async with running(connect()) as store:
        note(store, *range(2_500))
        await store.aclose()
        await store.aclose()
    with reading(connect()) as database:
        assert (check(database).ok, check(database).count) == (True, 2_500)


async def test_head_is_logged_for_later_checks(connect: Connect) -> None:
    with structlog.testing.capture_logs() as logs:
        async with running(connect()) as store:
            note(store, 1)
    logged = [entry["head"] for entry in logs if entry["event"] == "receipts_head"]
    with reading(connect()) as database:
        assert logged[-1] == str(check(database).head)


async def test_two_writers_append_to_one_chain(connect: Connect) -> None:
    async with running(connect()) as one, running(connect()) as other:
        for start in range(0, 400, 40):
            note(one, *range(start, start + 20))
            note(other, *range(start + 20, start + 40))
            await asyncio.gather(one.find("d0"), other.find("d0"))
        assert await one.find("d399") is not None
        assert await other.find("d0") is not None
    with reading(connect()) as database:
        assert (check(database).ok, check(database).count) == (True, 400)
        assert [item.link.sequence for item in walk(database)] == list(range(1, 401))


async def test_oldest_decisions_are_pruned_behind_an_anchor(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "PRUNE_EVERY", 25)
    async with running(connect(), max_decisions=10) as store:
        note(store, *range(15))
        store.finish("d14", Outcome("finished", "slm"))
        note(store, *range(15, 25))
        assert await store.find("d14") is None
        assert await store.find("d15") is not None
    with reading(connect()) as database:
        assert database.anchor().sequence == 16
        verdict = check(database)
    assert (verdict.ok, verdict.count, verdict.head.sequence) == (True, 10, 26)


async def test_much_is_pruned_in_several_steps(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("weir.router.receipts.sql.MAX_PRUNED", 4)
    async with running(connect()) as store:
        note(store, *range(12))
    with reading(connect()) as database:
        assert [database.prune(2) for _ in range(4)] == [4, 4, 2, 0]
        assert (check(database).ok, check(database).count) == (True, 2)


async def test_reading_takes_decisions_of_a_time_with_their_outcomes(connect: Connect) -> None:
    for at, number, tenant in ((10.0, 1, "a"), (20.0, 2, "b"), (30.0, 3, "a")):
        async with running(connect(), at=at) as store:
            note(store, number, tenant=tenant)
    async with running(connect(), at=40.0) as store:
        store.finish("d2", Outcome("finished", "slm"))
        store.finish("d3", Outcome("finished", "slm"))
        every = [item async for item in store.read()]
        middle = [item.record.decision_id async for item in store.read(since=15.0, until=30.0)]
        late_of_a = [item.sequence async for item in store.read(since=15.0, tenant="a")]
    assert [item.sequence for item in every] == [1, 2, 3, 4, 5]
    assert isinstance(every[0].record, DecisionRecord)
    assert middle == ["d2", "d2"]
    assert late_of_a == [3, 5]


async def test_reading_pages_through_more_than_one_page(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("weir.router.receipts.sql.PAGE", 7)
    async with running(connect()) as store:
        note(store, *range(20))
        assert [item.sequence async for item in store.read()] == list(range(1, 21))


SWAPPED_BODY = """
UPDATE weir_receipts SET body = (SELECT body FROM weir_receipts WHERE sequence = 5) WHERE sequence = 3
"""
SWAPPED_HASH = """
UPDATE weir_receipts SET hash = (SELECT hash FROM weir_receipts WHERE sequence = 5) WHERE sequence = 3
"""
OTHER_ANCHOR = """
UPDATE weir_receipts_anchor SET hash = (SELECT hash FROM weir_receipts WHERE sequence = 5)
"""
TAMPERING = {
    "body": (SWAPPED_BODY, 3),
    "hash": (SWAPPED_HASH, 3),
    "deletion": ("DELETE FROM weir_receipts WHERE sequence = 3", 3),
    "deletion of the first": ("DELETE FROM weir_receipts WHERE sequence = 1", 1),
    "renumbering": ("UPDATE weir_receipts SET sequence = 100 WHERE sequence = 3", 3),
    "another tenant": ("UPDATE weir_receipts SET tenant = 'other' WHERE sequence = 3", 3),
    "another decision": ("UPDATE weir_receipts SET decision_id = 'other' WHERE sequence = 3", 3),
    "anchor": (OTHER_ANCHOR, 1),
}


@pytest.mark.parametrize("kind", TAMPERING)
async def test_tampering_in_the_database_names_the_first_broken_receipt(connect: Connect, kind: str) -> None:
    statement, broken = TAMPERING[kind]
    async with running(connect()) as store:
        note(store, *range(6))
    with reading(connect()) as database:
        assert check(database).ok
        database._do(statement)
        assert check(database).broken == broken


async def test_end_cut_off_and_written_on_is_found_with_a_noted_head(connect: Connect) -> None:
    async with running(connect()) as store:
        note(store, *range(6))
    with reading(connect()) as database:
        head = check(database).head
        database._do("DELETE FROM weir_receipts WHERE sequence >= 5")
        assert check(database).ok
        assert check(database, head).broken == 5
    async with running(connect()) as store:
        note(store, *range(10, 14))
    with reading(connect()) as database:
        assert check(database).ok
        assert not check(database, head).ok
        assert not check(database, head.hash).ok


async def test_what_is_read_in_a_snapshot_does_not_move(connect: Connect) -> None:
    async with running(connect()) as store:
        note(store, 1)
        assert await store.find("d1") is not None
        with reading(connect()) as database, database.snapshot():
            assert len(database.page(0, Filter())) == 1
            note(store, 2)
            assert await store.find("d2") is not None
            assert len(database.page(0, Filter())) == 1


async def test_record_that_cannot_be_kept_harms_no_other(connect: Connect) -> None:
    async with running(connect()) as store:
        note(store, 1)
        note(store, 2, tenant="zero\0byte")
        store.finish("d1", Outcome("finished", "slm", cost_usd=float("nan")))
        note(store, 3)
        assert await store.find("d2") is None
        assert [item.record.decision_id async for item in store.read()] == ["d1", "d3"]


async def test_questions_after_closing_are_refused(connect: Connect) -> None:
    async with running(connect()) as store:
        pass
    with pytest.raises(WeirError) as caught:
        await store.find("d1")
    assert caught.value.code is ErrorCode.SHUTTING_DOWN


PROMPT = "the heron waits by the weir at dusk"


def contents(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


async def test_prompt_reaches_the_file_only_where_it_is_enabled_and_allowed(tmp_path: Path) -> None:
    for name, settings, facts, kept in (
        ("off", {}, FACTS, False),
        ("no_store", {"store_prompts": True}, PRIVATE, False),
        ("on", {"store_prompts": True}, FACTS, True),
    ):
        async with running(SqliteDatabase(tmp_path / name / "r.sqlite3"), **settings) as store:
            store.record(decision(), facts, request_id="r", tenant="t", prompt=PROMPT)
            story = await store.find("d1")
            # The write-ahead log too: it is there until the store is closed.
            before = contents(tmp_path / name)
        assert (PROMPT.encode() in before + contents(tmp_path / name)) is kept, name
        assert story is not None
        assert story.decision.prompt == (PROMPT if kept else None)


async def test_receipt_is_what_a_trace_has(connect: Connect) -> None:
    async with running(connect()) as store:
        note(store, 1)
        read = [item async for item in store.read()]
    with reading(connect()) as database:
        assert [receipt(item) for item in walk(database)] == read
