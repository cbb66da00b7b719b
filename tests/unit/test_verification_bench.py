"""`weir bench verify`: its arithmetic, its rows and what it refuses."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from weir.cli.bench import bench_app
from weir.cli.verification import figures
from weir.cli.verification.costs import Costs, bound
from weir.cli.verification.local_drafts import Draft, LocalStub
from weir.cli.verification.processes import resident_mib
from weir.cli.verification.speed import Rounds, Totals
from weir.cli.verification.streams import Answer, taken
from weir.common.calls import bidi, unary
from weir.v1 import slm_worker_pb2, types_pb2, verifier_pb2

COSTS = Costs(0.010, {1: 0.047, 4: 0.051, 5: 0.057, 9: 0.083, 16: 0.135})


def test_sizes_that_were_not_measured_lie_between_those_that_were() -> None:
    assert COSTS.verifying(7) == pytest.approx(0.070)
    assert COSTS.round(4) == pytest.approx(0.097)


def test_without_any_acceptance_the_bound_is_decoding_alone() -> None:
    rate, length = bound(COSTS, 0.0)
    assert length == 0
    assert rate == pytest.approx(1 / 0.047)


def test_with_every_draft_accepted_the_bound_is_the_best_of_all_lengths() -> None:
    rate, length = bound(COSTS, 1.0)
    assert rate == pytest.approx(max((k + 1) / COSTS.round(k) for k in range(16)))
    assert length > 4


@given(low=st.floats(0, 1), high=st.floats(0, 1))
def test_more_acceptance_never_lowers_the_bound(low: float, high: float) -> None:
    low, high = sorted((low, high))
    assert bound(COSTS, low)[0] <= bound(COSTS, high)[0] * (1 + 1e-9)


def _answer(tokens: int, seconds: float, finished: Any = None) -> Answer:
    return Answer(tuple(range(tokens)), "", 0.1, seconds + 0.1, tokens - 1, seconds, finished)


def test_speeds_are_of_all_tokens_behind_the_first() -> None:
    totals = Totals.of([_answer(11, 1.0), _answer(31, 3.0)])
    assert totals.rate == pytest.approx(10.0)
    assert totals.tokens == 42
    assert totals.whole_s == pytest.approx(2.1)


def test_acceptance_counts_the_drafts_on_which_a_verdict_fell() -> None:
    stats = verifier_pb2.VerificationStats(judged_by_position=[4, 2], accepted_by_position=[2, 1])
    usage = types_pb2.Usage(drafted_tokens=8)
    finished = verifier_pb2.VerifiedFinished(rounds=4, usage=[usage], stats=stats)
    rounds = Rounds.of([_answer(7, 1.0, finished)])
    assert (rounds.acceptance, rounds.drafted, rounds.tokens) == (0.5, 2.0, 1.75)


async def test_a_stream_without_its_last_word_is_no_answer() -> None:
    async def responses() -> AsyncIterator[verifier_pb2.GenerateVerifiedResponse]:
        delta = types_pb2.TokenDelta(text="a", tokens=[types_pb2.Token(id=1)])
        yield verifier_pb2.GenerateVerifiedResponse(delta=delta)

    with pytest.raises(EOFError):
        await taken(responses)


class _Worker:
    """A servicer with ``draft`` for its Draft."""

    def __init__(self, draft: Draft) -> None:
        self.Draft = draft

    async def GetModelInfo(self, request: Any, context: Any) -> slm_worker_pb2.GetModelInfoResponse:
        return slm_worker_pb2.GetModelInfoResponse(model="tiny")


async def _echo(
    requests: AsyncIterator[slm_worker_pb2.DraftRequest], _: object
) -> AsyncIterator[slm_worker_pb2.DraftResponse]:
    async for request in requests:
        chunk = slm_worker_pb2.DraftChunk(sequence=request.ack.sequence)
        yield slm_worker_pb2.DraftResponse(chunk=chunk)


async def test_a_local_stream_answers_as_a_call_does() -> None:
    async with bidi(LocalStub(_Worker(_echo)).Draft) as call:
        ack = slm_worker_pb2.DraftAck(sequence=5)
        await call.write(slm_worker_pb2.DraftRequest(ack=ack))
        response = await call.read()
        await call.done_writing()
        assert response is not None
        assert response.chunk.sequence == 5
        assert await call.read() is None


async def test_a_local_worker_says_what_it_runs() -> None:
    stub = LocalStub(_Worker(_echo))
    assert (await unary(stub.GetModelInfo, slm_worker_pb2.GetModelInfoRequest())).model == "tiny"


async def test_a_local_stream_that_is_left_ends_its_servicer() -> None:
    ended = asyncio.Event()

    async def endless(requests: AsyncIterator[Any], _: object) -> AsyncIterator[Any]:
        try:
            async for request in requests:
                yield request
        finally:
            ended.set()

    async with bidi(LocalStub(_Worker(endless)).Draft) as call:
        await call.write("one")
        assert await call.read() == "one"
    await asyncio.wait_for(ended.wait(), 5)


async def test_a_local_stream_raises_what_its_servicer_raised() -> None:
    async def broken(requests: AsyncIterator[Any], _: object) -> AsyncIterator[Any]:
        yield await anext(requests)
        raise grpc.aio.UsageError("broken")

    async with bidi(LocalStub(_Worker(broken)).Draft) as call:
        await call.write("one")
        assert await call.read() == "one"
        with pytest.raises(grpc.aio.UsageError):
            await call.read()


def test_rows_say_whether_they_reach_their_target(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        figures.at_least("m", "good", 0.95, 0.9, "why", rate=20.0),
        figures.at_least("m", "bad", 0.85, 0.9, "why"),
        figures.Figure("m", "told", "3"),
    ]
    assert [row.met for row in rows] == [True, False, None]
    figures.show(rows, as_json=True)
    first, *_ = map(json.loads, capsys.readouterr().out.splitlines())
    assert first["values"] == {"value": 0.95, "rate": 20.0}
    figures.show(rows, as_json=False)
    assert "NO" in capsys.readouterr().out


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_is_that_of_this_process_at_least() -> None:
    import os

    assert resident_mib(os.getpid()) > 10


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(bench_app, ["verify", *arguments])


def test_parts_that_do_not_exist_are_refused(tmp_path: Path) -> None:
    result = _run("--target", str(tmp_path), "--only", "speed,colors")
    assert result.exit_code == 2
    assert "colors" in result.output


def test_a_target_is_needed(tmp_path: Path) -> None:
    result = _run("--drafter", str(tmp_path))
    assert result.exit_code == 2
    assert "--target" in result.output
