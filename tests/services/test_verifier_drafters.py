"""Drafters, clients and engines that misbehave within a round: the answer goes on, or ends as it should."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psutil
import pytest

from tests.services.engine_cores import cores
from tests.services.verifier_bench import Answered, Bench, prompt, verifier_bench
from weir.common.calls import stream_from
from weir.common.errors import ErrorCode, WeirError
from weir.engines.text.codec import load_codec
from weir.v1 import slm_worker_pb2, types_pb2, verifier_pb2
from weir.verifier import drafts

MAX_SESSIONS = 2
QUESTION = prompt("Write one sentence about the sea.")


@pytest.fixture(scope="module")
def others() -> set[psutil.Process]:
    """The engines that are not the bench's own."""
    return cores()


@pytest.fixture(scope="module")
async def bench(embedded_model: Path, others: set[psutil.Process]) -> AsyncIterator[Bench]:
    del others
    sha256 = load_codec(embedded_model).sha256
    async with verifier_bench(sha256, hybrid={"draft_tokens": 4}, max_sessions=MAX_SESSIONS) as bench:
        yield bench


@pytest.fixture(scope="module")
async def alone(bench: Bench) -> Answered:
    return await bench.alone(QUESTION)


def right(alone: Answered) -> Callable[[list[int]], list[int]]:
    return lambda said: alone.ids[len(said) : len(said) + 4]


async def no_session_is_left(bench: Bench) -> None:
    """As many answers as there may be sessions; one more that is left would refuse the last of them."""
    bench.drafter.script(lambda said: [])
    async with asyncio.TaskGroup() as tasks:
        for _ in range(MAX_SESSIONS):
            tasks.create_task(bench.generate(prompt(max_tokens=2)))


async def until_the_drafter_is_let_go(bench: Bench) -> None:
    async with asyncio.timeout(10):
        await bench.drafter.closed.wait()


def outside_the_vocabulary(chunk: slm_worker_pb2.DraftChunk) -> None:
    chunk.tokens[-1].id = 2**31


def the_same_number_again(chunk: slm_worker_pb2.DraftChunk) -> None:
    chunk.sequence = 0


def numbers_that_fall(chunk: slm_worker_pb2.DraftChunk) -> None:
    chunk.sequence = 100 - chunk.sequence


def more_than_was_asked_for(chunk: slm_worker_pb2.DraftChunk) -> None:
    chunk.tokens.extend([types_pb2.Token(id=1)] * 4)


@pytest.mark.parametrize(
    "mangle", [outside_the_vocabulary, the_same_number_again, numbers_that_fall, more_than_was_asked_for]
)
async def test_a_drafter_that_breaks_the_protocol_is_left_and_changes_nothing(
    bench: Bench, alone: Answered, mangle: Callable[[slm_worker_pb2.DraftChunk], None]
) -> None:
    bench.drafter.script(right(alone), mangle=mangle)
    answered = await bench.generate(QUESTION)
    assert answered.ids == alone.ids
    assert len(bench.drafter.acks) <= 1
    await until_the_drafter_is_let_go(bench)


async def test_an_empty_chunk_is_a_round_of_the_verifiers_own(bench: Bench, alone: Answered) -> None:
    bench.drafter.script(right(alone), mangle=lambda chunk: chunk.ClearField("tokens"))
    answered = await bench.generate(QUESTION)
    assert answered.ids == alone.ids
    assert {(ack.accepted, len(ack.correction)) for ack in bench.drafter.acks} == {(0, 1)}
    assert answered.finished.stats.draft_tokens == 0


async def test_a_drafter_that_dies_within_a_round_leaves_what_stood(bench: Bench, alone: Answered) -> None:
    bench.drafter.script(right(alone), fail_at=1, error=WeirError(ErrorCode.ENGINE_CRASHED))
    answered = await bench.generate(QUESTION)
    assert answered.ids == alone.ids
    assert answered.finished.stats.draft_tokens == 4


async def test_a_drafter_that_stalls_is_left_after_a_while(
    bench: Bench, alone: Answered, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drafts, "PATIENCE_S", 0.3)
    bench.drafter.script(right(alone), hold_at=1)
    answered = await bench.generate(QUESTION)
    assert answered.ids == alone.ids
    await until_the_drafter_is_let_go(bench)


async def test_a_deadline_within_a_round_ends_the_answer_and_its_session(
    bench: Bench, alone: Answered
) -> None:
    bench.drafter.script(right(alone), hold_at=1)
    request = verifier_pb2.GenerateVerifiedRequest(prompt=QUESTION)
    came = []
    with pytest.raises(WeirError) as late:
        async with stream_from(bench.stub.GenerateVerified, request, timeout=1.5) as responses:
            async for response in responses:
                came += [token.id for token in response.delta.tokens]
    assert late.value.code is ErrorCode.DEADLINE
    assert came == alone.ids[: len(came)]
    assert came
    await until_the_drafter_is_let_go(bench)
    await no_session_is_left(bench)


async def test_a_client_that_reads_nothing_holds_no_session_past_its_deadline(
    bench: Bench, alone: Answered
) -> None:
    bench.drafter.script(right(alone), hold_at=2)
    request = verifier_pb2.GenerateVerifiedRequest(prompt=QUESTION)
    async with stream_from(bench.stub.GenerateVerified, request, timeout=2.0) as responses:
        pending = asyncio.ensure_future(anext(responses))
        await until_the_drafter_is_let_go(bench)
        await pending
    await no_session_is_left(bench)


async def test_a_verifiers_engine_that_dies_within_a_round_ends_the_answer(
    bench: Bench, alone: Answered, others: set[psutil.Process]
) -> None:
    bench.drafter.script(right(alone), hold_at=1)
    request = verifier_pb2.GenerateVerifiedRequest(prompt=QUESTION)
    with pytest.raises(WeirError) as crashed:
        async with stream_from(bench.stub.GenerateVerified, request) as responses:
            await anext(responses)
            await bench.drafter.holding.wait()
            (core,) = cores() - others
            core.kill()
            bench.drafter.release.set()
            async for _ in responses:
                pass
    assert crashed.value.code is ErrorCode.ENGINE_CRASHED
    await until_the_drafter_is_let_go(bench)
