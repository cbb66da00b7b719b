"""Drafts of the worker on the real embedded model, over gRPC: verdicts good and bad, copies, leaks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, TypeAlias

import grpc
import pytest

from weir.common.app import App
from weir.common.calls import Bidi, bidi, connect
from weir.common.config import Settings
from weir.common.errors import ErrorCode, WeirError
from weir.engines.text.codec import load_codec
from weir.slm_worker.app import build
from weir.v1 import slm_worker_pb2, slm_worker_pb2_grpc, types_pb2

Stub: TypeAlias = "slm_worker_pb2_grpc.SlmWorkerServiceAsyncStub"
Call: TypeAlias = Bidi[slm_worker_pb2.DraftRequest, slm_worker_pb2.DraftResponse]
MAX_SESSIONS = 6
NAN = float("nan")
COPIES = "The warehouse at 14 Quince Street stores copper pipes, brass valves and steel flanges."


@pytest.fixture(scope="module")
async def worker(embedded_model: Path) -> AsyncIterator[App]:
    settings = Settings.model_validate(
        {
            "services": {"slm_worker": {"port": 0, "drain_delay_s": 0, "drain_grace_s": 1}},
            "tiers": {"slm": {"run": {"max_sessions": MAX_SESSIONS}}},
        }
    )
    async with build(settings) as app:
        yield app


@pytest.fixture
async def stub(worker: App) -> AsyncIterator[Stub]:
    async with connect(f"127.0.0.1:{worker.port}") as channel:
        yield slm_worker_pb2_grpc.SlmWorkerServiceStub(channel)


def _prompt(text: str = "What is the capital of France?", **sampling: Any) -> types_pb2.Prompt:
    parameters = {"max_tokens": 12, "temperature": 0.0, **sampling}
    message = types_pb2.Message(role=types_pb2.ROLE_USER, content=text)
    return types_pb2.Prompt(messages=[message], sampling=types_pb2.SamplingParams(**parameters))


async def _start(call: Call, prompt: types_pb2.Prompt, **fields: Any) -> None:
    start = slm_worker_pb2.DraftStart(prompt=prompt, **{"chunk_tokens": 4, **fields})
    await call.write(slm_worker_pb2.DraftRequest(start=start))


async def _chunk(call: Call) -> slm_worker_pb2.DraftChunk:
    response = await call.read()
    assert response is not None
    assert response.HasField("chunk")
    return response.chunk


async def _ack(call: Call, sequence: int, accepted: int, *correction: int, **fields: int) -> None:
    ack = slm_worker_pb2.DraftAck(sequence=sequence, accepted=accepted, correction=correction, **fields)
    await call.write(slm_worker_pb2.DraftRequest(ack=ack))


def _ids(chunk: slm_worker_pb2.DraftChunk) -> list[int]:
    return [token.id for token in chunk.tokens]


def _same(drafted: list[int], text: list[int]) -> int:
    pairs = enumerate(zip(drafted, text, strict=False))
    return next((count for count, (mine, true) in pairs if mine != true), min(len(drafted), len(text)))


async def _draft(stub: Stub, prompt: types_pb2.Prompt, accept: int | None) -> tuple[list[int], Any]:
    """Accept so many tokens of each chunk (all where None), correcting nothing."""
    kept: list[int] = []
    async with bidi(stub.Draft) as call:
        await _start(call, prompt)
        while (response := await call.read()) is not None:
            if response.HasField("finished"):
                return kept, response.finished
            chunk = response.chunk
            taken = len(chunk.tokens) if accept is None else min(accept, len(chunk.tokens))
            kept += _ids(chunk)[:taken]
            await _ack(call, chunk.sequence, taken)
    raise AssertionError("the draft ended without Finished")


async def test_drafts_are_the_same_however_they_are_taken(stub: Stub) -> None:
    whole, finished = await _draft(stub, _prompt(max_tokens=10), None)
    piecemeal, _ = await _draft(stub, _prompt(max_tokens=10), 3)
    assert finished.usage.accepted_tokens == len(whole)
    assert whole == piecemeal


async def test_chunks_tell_their_method_and_their_time(stub: Stub) -> None:
    async with bidi(stub.Draft) as call:
        await _start(call, _prompt())
        chunk = await _chunk(call)
    assert chunk.method == slm_worker_pb2.DRAFT_METHOD_MODEL
    assert chunk.draft_time.ToNanoseconds() > 0
    assert all(token.HasField("logprob") for token in chunk.tokens)


async def test_chunks_are_drafted_ahead_and_kept_by_a_correction_that_they_foresaw(stub: Stub) -> None:
    whole, _ = await _draft(stub, _prompt("Write a long story.", max_tokens=20), None)
    async with bidi(stub.Draft) as call:
        await _start(call, _prompt("Write a long story.", max_tokens=20), chunks_ahead=3)
        chunks = [await _chunk(call) for _ in range(3)]
        await _ack(call, 0, 4, whole[4])
        chunks.append(await _chunk(call))
    assert [chunk.sequence for chunk in chunks] == [0, 1, 2, 3]
    assert [token for chunk in chunks for token in _ids(chunk)] == whole[:16]


async def test_another_correction_voids_what_was_drafted_ahead(stub: Stub) -> None:
    async with bidi(stub.Draft) as call:
        await _start(call, _prompt("Write a long story.", max_tokens=40), chunks_ahead=3)
        chunks = [await _chunk(call) for _ in range(3)]
        await _ack(call, 0, 2, _ids(chunks[2])[0], next_tokens=6, chunks_ahead=1)
        fresh = await _chunk(call)
    assert fresh.sequence == 3
    assert len(fresh.tokens) == 6


async def test_passage_that_is_repeated_is_copied_until_the_verifier_disagrees(
    stub: Stub, embedded_model: Path
) -> None:
    prompt = _prompt(f"Repeat this sentence word for word: {COPIES}", max_tokens=200)
    prompt.messages.append(types_pb2.Message(role=types_pb2.ROLE_ASSISTANT, content="The warehouse at"))
    left = load_codec(embedded_model).encode(COPIES.removeprefix("The warehouse at"))
    copied = 0
    async with bidi(stub.Draft) as call:
        await _start(call, prompt)
        while len(left) > 1:
            chunk = await _chunk(call)
            right = _same(_ids(chunk), left[:-1])
            if chunk.method == slm_worker_pb2.DRAFT_METHOD_LOOKUP:
                assert not any(token.HasField("logprob") or token.top for token in chunk.tokens)
                copied += right
            await _ack(call, chunk.sequence, right, left[right])
            left = left[right + 1 :]
        assert copied >= 8
        for _ in range(12):
            chunk = await _chunk(call)
            if chunk.method == slm_worker_pb2.DRAFT_METHOD_MODEL:
                return
            await _ack(call, chunk.sequence, 0, _ids(chunk)[0] + 1)
    raise AssertionError("the model was never asked")


async def test_unsure_model_hands_the_token_over(stub: Stub) -> None:
    async with bidi(stub.Draft) as call:
        await _start(call, _prompt("Write a long story.", max_tokens=40), min_confidence=0.9999)
        chunk = await _chunk(call)
        assert not chunk.tokens
        await _ack(call, chunk.sequence, 0, 504, 253)
        assert (await _chunk(call)).sequence == 1


async def test_sampled_drafts_carry_their_distribution(stub: Stub) -> None:
    async with bidi(stub.Draft) as call:
        await _start(call, _prompt("Write a long story.", temperature=0.8, seed=5, max_tokens=40))
        chunk = await _chunk(call)
    for token in chunk.tokens:
        assert sum(2.718281828**entry.logprob for entry in token.top) == pytest.approx(1, abs=1e-3)


def _starting(**fields: Any) -> slm_worker_pb2.DraftRequest:
    return slm_worker_pb2.DraftRequest(start=slm_worker_pb2.DraftStart(prompt=_prompt(), **fields))


def _acking(*correction: int, **fields: int) -> slm_worker_pb2.DraftRequest:
    return slm_worker_pb2.DraftRequest(ack=slm_worker_pb2.DraftAck(correction=correction, **fields))


@pytest.mark.parametrize(
    ("messages", "field"),
    [
        ([_acking()], "start"),
        ([_starting(), _starting()], "event"),
        ([slm_worker_pb2.DraftRequest()], "start"),
        ([_starting(), slm_worker_pb2.DraftRequest()], "event"),
        ([_starting(chunk_tokens=1000)], "start.chunk_tokens"),
        ([_starting(chunks_ahead=2**32 - 1)], "start.chunks_ahead"),
        ([_starting(min_confidence=NAN)], "start.min_confidence"),
        ([_starting(min_confidence=-0.1)], "start.min_confidence"),
        ([_starting(min_confidence=1.5)], "start.min_confidence"),
        ([_starting(), _acking(sequence=9, accepted=1)], "ack.sequence"),
        ([_starting(chunk_tokens=2), _acking(accepted=2**32 - 1)], "ack.accepted"),
        ([_starting(), _acking(7, 2**32 - 1)], "ack.correction[1]"),
        ([_starting(), _acking(49_152)], "ack.correction[0]"),
        ([_starting(), _acking(next_tokens=65)], "ack.next_tokens"),
        ([_starting(), _acking(chunks_ahead=2**32 - 1)], "ack.chunks_ahead"),
        ([_starting(), _acking(accepted=1), _acking(accepted=1)], "ack.sequence"),
        ([_starting(chunks_ahead=2), _acking(sequence=1)], "ack.sequence"),
    ],
)
async def test_message_that_fits_nothing_is_refused(stub: Stub, messages: list[Any], field: str) -> None:
    with pytest.raises(WeirError) as caught:
        async with bidi(stub.Draft) as call:
            for message in messages:
                await call.write(message)
                # Acks are on what was seen; those on chunks never sent come all the same.
                await call.read()
            while await call.read() is not None:
                pass
    assert caught.value.code is ErrorCode.INVALID_REQUEST
    assert list(caught.value.fields) == [field]


async def test_end_of_the_verdicts_ends_the_draft(stub: Stub) -> None:
    async with bidi(stub.Draft) as call:
        await _start(call, _prompt())
        await _chunk(call)
        await call.done_writing()
        response = await call.read()
    assert response is not None
    assert response.HasField("finished")


async def test_deadline_ends_the_draft(stub: Stub) -> None:
    with pytest.raises(WeirError) as caught:
        async with bidi(stub.Draft, timeout=0.5) as call:
            await _start(call, _prompt())
            while await call.read() is not None:
                pass
    assert caught.value.code is ErrorCode.DEADLINE


async def _left(stub: Stub, state: int) -> None:
    """Leave a draft in one of its states."""
    async with bidi(stub.Draft) as call:
        await _start(call, _prompt("Write a long story.", max_tokens=400), chunks_ahead=1 + state % 3)
        if state % 5 == 0:
            return
        chunk = await _chunk(call)
        if state % 5 == 1:
            return
        if state % 5 == 2:
            await _ack(call, chunk.sequence, 99)
            return
        await _ack(call, chunk.sequence, 1, 504, next_tokens=16)
        if state % 5 == 4:
            await _chunk(call)


async def test_left_drafts_leak_no_sessions(stub: Stub) -> None:
    for state in range(3 * MAX_SESSIONS):
        await _left(stub, state)
    async with asyncio.TaskGroup() as tasks:
        drafts = [tasks.create_task(_draft_when_free(stub)) for _ in range(MAX_SESSIONS)]
    assert [len(task.result()) for task in drafts] == [4] * MAX_SESSIONS


async def _draft_when_free(stub: Stub) -> list[int]:
    """Draft 4 tokens; the server may not have seen yet that an earlier call is gone."""
    async with asyncio.timeout(10):
        while True:
            try:
                return (await _draft(stub, _prompt(max_tokens=4), None))[0]
            except WeirError as error:
                if error.code is not ErrorCode.QUEUE_FULL:
                    raise
                await asyncio.sleep(0.05)


async def test_cancelled_call_is_cancelled(stub: Stub) -> None:
    call = stub.Draft()
    await call.write(_starting())
    await call.read()
    call.cancel()
    assert await call.code() is grpc.StatusCode.CANCELLED
