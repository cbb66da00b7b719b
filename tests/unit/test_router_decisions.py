"""The decision store: round trip, labels, privacy, order, retention."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from weir.common.errors import ErrorCode, WeirError
from weir.router import decisions
from weir.router.decisions import DecisionStore, Feedback, Outcome
from weir.router.domain import Decision, Exclusion, Facts, Policy, Reason, Tier


def decision(number: int = 1) -> Decision:
    return Decision(
        decision_id=f"d{number}",
        order=(Tier.SLM, Tier.HYBRID),
        model="small",
        complexity=0.2,
        confidence=0.8,
        estimated_latency_s=None,
        estimated_cost_usd=0.0,
        reasons=(Reason("low_complexity", "because"),),
        exclusions=(Exclusion(Tier.FRONTIER, Reason("residency", "stays")),),
        classifier_revision="r1",
        complexity_threshold=0.72,
    )


FACTS = Facts(20, None, None, Policy())


async def test_decision_outcome_and_label_are_kept_over_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "decisions.sqlite3"
    store = DecisionStore(path)
    await store.start()
    store.record(decision(), FACTS, request_id="r", tenant="t")
    store.finish("d1", Outcome("finished", "slm", completion_tokens=7, cost_usd=0.5, valid=True))
    await store.label("d1", Feedback(acceptable=False, score=0.25, comment="too short"))
    await store.aclose()
    again = DecisionStore(path)
    await again.start()
    found = await again.find("d1")
    await again.aclose()
    assert found is not None
    assert (found["tier"], found["outcome"], found["completion_tokens"]) == ("slm", "finished", 7)
    assert found["exclusions"] == '{"frontier": "residency"}'
    assert found["feedback"] == [{"acceptable": 0, "score": 0.25, "comment": "too short"}]


async def test_label_for_an_unknown_decision_is_refused(tmp_path: Path) -> None:
    store = DecisionStore(tmp_path / "d.sqlite3")
    await store.start()
    with pytest.raises(WeirError) as caught:
        await store.label("nobody", Feedback(acceptable=True, score=None))
    await store.aclose()
    assert caught.value.code is ErrorCode.UNKNOWN_DECISION


async def test_comment_is_dropped_where_no_content_may_be_kept(tmp_path: Path) -> None:
    store = DecisionStore(tmp_path / "d.sqlite3")
    await store.start()
    store.record(decision(), Facts(20, None, None, Policy(no_store=True)), request_id="r", tenant="")
    await store.label("d1", Feedback(acceptable=True, score=None, comment="secret"))
    found = await store.find("d1")
    await store.aclose()
    assert found is not None
    assert found["feedback"][0]["comment"] == ""


async def test_pending_writes_are_flushed_at_close(tmp_path: Path) -> None:
    store = DecisionStore(tmp_path / "d.sqlite3")
    await store.start()
    for number in range(500):
        store.record(decision(number), FACTS, request_id="r", tenant="")
    await store.aclose()
    await store.aclose()
    with sqlite3.connect(tmp_path / "d.sqlite3") as database:
        assert database.execute("SELECT COUNT(*) FROM decisions").fetchone() == (500,)
    database.close()


async def test_oldest_decisions_are_pruned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decisions, "MAX_DECISIONS", 10)
    monkeypatch.setattr(decisions, "PRUNE_EVERY", 25)
    store = DecisionStore(tmp_path / "d.sqlite3")
    await store.start()
    for number in range(25):
        store.record(decision(number), FACTS, request_id="r", tenant="")
    assert await store.find("d14") is None
    assert await store.find("d15") is not None
    await store.aclose()


async def test_folder_that_cannot_be_made_is_an_error_that_names_the_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = DecisionStore(tmp_path / "file" / "d.sqlite3")
    with pytest.raises(WeirError, match="cannot be opened") as caught:
        await store.start()
    await store.aclose()
    assert "state.directory" in caught.value.hint


async def test_labels_after_closing_are_refused(tmp_path: Path) -> None:
    store = DecisionStore(tmp_path / "d.sqlite3")
    await store.start()
    await store.aclose()
    with pytest.raises(WeirError) as caught:
        await store.find("d1")
    assert caught.value.code is ErrorCode.SHUTTING_DOWN
