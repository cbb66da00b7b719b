"""A router's receipts: what it keeps of requests, for whom, and that it answers without their database."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest

from tests.postgres_server import PostgresServer
from tests.services.receipts_bench import ADDRESS, reading
from tests.services.scripted_upstreams import ask, router_bench
from weir.common.config import Settings
from weir.common.config.model import Receipts
from weir.common.errors import ErrorCode, WeirError
from weir.common.propagation import TENANT_KEY
from weir.router.receipts.database import check
from weir.router.receipts.sqlite import SqliteDatabase
from weir.router.receipts.store import Story, story
from weir.v1 import router_pb2, types_pb2

PROMPT = "the heron waits by the weir at dusk"


def kept(folder: Path, decision_id: str) -> Story:
    """Return what a router that has ended kept, once the chain is seen to be whole."""
    with reading(SqliteDatabase(folder / "state" / "receipts.sqlite3")) as database:
        assert check(database).ok
        found = story(database.of_decision(decision_id))
    assert found is not None
    return found


def with_receipts(settings: Settings, **receipts: object) -> Settings:
    state = settings.state.model_copy(update={"receipts": Receipts.model_validate(receipts)})
    return settings.model_copy(update={"state": state})


async def test_answer_leaves_decision_and_outcome(settings: Settings, tmp_path: Path) -> None:
    async with router_bench(settings) as bench:
        told = (await bench.generate())[0].decision
    found = kept(tmp_path, told.decision_id)
    assert (found.decision.tier, found.decision.generated) == ("slm", True)
    assert found.decision.reasons == [reason.code for reason in told.reasons]
    assert found.decision.signals.items() >= {item.name: item.value for item in told.signals}.items()
    assert found.decision.revisions["classifier"] == told.classifier_revision
    assert found.outcome is not None
    assert (found.outcome.outcome, found.outcome.answered_by, found.outcome.handovers) == (
        "finished",
        "slm",
        0,
    )


async def test_decision_alone_says_that_nothing_was_generated(settings: Settings, tmp_path: Path) -> None:
    async with router_bench(settings) as bench:
        told = await bench.route()
    found = kept(tmp_path, told.decision_id)
    assert not found.decision.generated
    assert found.outcome is None


async def test_hand_over_is_in_the_outcome(settings: Settings, tmp_path: Path) -> None:
    async with router_bench(settings) as bench:
        bench.worker.script.error = WeirError(ErrorCode.UNSUPPORTED)
        told = (await bench.generate())[0].decision
    outcome = kept(tmp_path, told.decision_id).outcome
    assert outcome is not None
    assert (outcome.outcome, outcome.answered_by, outcome.handovers) == ("finished", "hybrid", 1)


async def test_feedback_of_another_tenant_is_refused(settings: Settings, tmp_path: Path) -> None:
    def tenant(name: str) -> tuple[tuple[str, str]]:
        return ((TENANT_KEY, name),)

    async with router_bench(settings) as bench:
        request = router_pb2.RouteRequest(prompt=ask().prompt)
        told = (await bench.stub.Route(request, metadata=tenant("one"))).decision
        label = router_pb2.SendFeedbackRequest(decision_id=told.decision_id, acceptable=True)
        for metadata in (tenant("two"), None):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await bench.stub.SendFeedback(label, metadata=metadata)
            assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        await bench.stub.SendFeedback(label, metadata=tenant("one"))
    found = kept(tmp_path, told.decision_id)
    assert found.decision.tenant == "one"
    assert len(found.feedback) == 1


@pytest.mark.parametrize(
    ("store", "no_store", "expected"), [(False, False, False), (True, True, False), (True, False, True)]
)
async def test_prompt_is_kept_only_where_both_sides_allow_it(
    settings: Settings, tmp_path: Path, store: bool, no_store: bool, expected: bool
) -> None:
    async with router_bench(with_receipts(settings, store_prompts=store)) as bench:
        policy = types_pb2.Policy(no_store=no_store)
        request = router_pb2.RouteRequest(prompt=ask(PROMPT).prompt, policy=policy)
        told = (await bench.stub.Route(request)).decision
    found = kept(tmp_path, told.decision_id)
    assert found.decision.no_store is no_store
    assert (PROMPT in (found.decision.prompt or "")) is expected
    written = b"".join(path.read_bytes() for path in (tmp_path / "state").glob("receipts.sqlite3*"))
    assert (PROMPT.encode() in written) is expected


async def test_router_answers_while_its_database_is_down(
    settings: Settings, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ADDRESS, postgres.empty())
    async with router_bench(with_receipts(settings, postgres_env=ADDRESS)) as bench:
        told = (await bench.generate())[0].decision
        label = router_pb2.SendFeedbackRequest(decision_id=told.decision_id, acceptable=True)
        await bench.stub.SendFeedback(label)
        postgres.kill()
        try:
            assert (await bench.generate())[-1].WhichOneof("event") == "finished"
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await bench.stub.SendFeedback(label)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            assert (await bench.generate())[-1].WhichOneof("event") == "finished"
        finally:
            postgres.start()
