"""Drafts from a worker's text, round by round: what is judged when, and when its call runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from tests.services.text_worker import TextWorker
from tests.services.verifier_bench import serving
from weir.common.calls import connect
from weir.common.prompts import PromptSpec
from weir.engines.base import ChatMessage, Pass, Sampling
from weir.engines.text.codec import Codec, load_codec
from weir.v1 import slm_worker_pb2_grpc
from weir.verifier.acceptance import Lossless, Rule, Threshold
from weir.verifier.drafts import Chunk
from weir.verifier.rounds import Emitted, Round
from weir.verifier.speculation.planner import Plan
from weir.verifier.text_level.opening import text_drafting
from weir.verifier.text_level.source import TextDrafts

Opened: TypeAlias = AbstractAsyncContextManager[TextDrafts]
SPEC = PromptSpec((ChatMessage("user", "What is the sea?"),), Sampling(max_tokens=64, temperature=0.7), None)
TEXT = "The sea is very wide. Its water is salty, and ships cross it. Fish live there."
ALONE = Chunk()


@pytest.fixture(scope="module")
def codec(embedded_model: Path) -> Codec:
    return load_codec(embedded_model)


@pytest.fixture
def worker() -> TextWorker:
    return TextWorker(lambda said: TEXT[len(said) :])  # type: ignore[abstract]


@pytest.fixture
async def stub(worker: TextWorker) -> AsyncIterator[Any]:
    register = slm_worker_pb2_grpc.add_SlmWorkerServiceServicer_to_server
    async with serving("writer", lambda server: register(worker, server)) as at, connect(at) as channel:
        yield slm_worker_pb2_grpc.SlmWorkerServiceStub(channel)


def opened(stub: Any, codec: Codec, rule: Rule, tokens: int = 8) -> Opened:
    return text_drafting(stub, "r", SPEC, rule, codec, tokens=tokens, on_failure=lambda: None)


def spelled(codec: Codec, chunk: Chunk) -> str:
    return b"".join(codec.token_bytes(token.id) for token in chunk.tokens).decode()


def verdict(chunk: Chunk, accepted: int, own: Sequence[int] = ()) -> Round:
    tokens = [Emitted(token.id, 0.0, drafted=True) for token in chunk.tokens[:accepted]]
    tokens += [Emitted(token, 0.0, drafted=False) for token in own]
    return Round(tuple(tokens), accepted, accepted, (), 1, 0.0, Pass(0.0, 1, 1))


def stands(drafts: TextDrafts, chunk: Chunk, own: Sequence[int] = ()) -> None:
    drafts.judged(chunk, verdict(chunk, len(chunk.tokens), own))


async def test_judged_token_by_token_the_verifier_says_one_while_the_worker_begins(
    stub: Any, codec: Codec, worker: TextWorker
) -> None:
    async with opened(stub, codec, Lossless()) as drafts:
        assert (await drafts.next()).tokens == ()
        stands(drafts, ALONE, codec.encode("The"))
        chunk = await drafts.next()
        assert spelled(codec, chunk) == " sea is very wide."
        stands(drafts, chunk, codec.encode(" Its"))
        assert spelled(codec, await drafts.next()).startswith(" water is salty, and ships")
    assert len(worker.requests) == 1


async def test_judged_whole_units_come_as_they_are_complete(stub: Any, codec: Codec) -> None:
    async with opened(stub, codec, Threshold(0.1)) as drafts:
        said = []
        for _ in range(3):
            chunk = await drafts.next()
            said.append(spelled(codec, chunk))
            assert [draft.ends_unit for draft in chunk.tokens] == [False] * (len(chunk.tokens) - 1) + [True]
            stands(drafts, chunk)
        assert said == [
            "The sea is very wide.",
            " Its water is salty, and ships cross it.",
            " Fish live there.",
        ]
        assert (await drafts.next()).tokens == ()


async def test_in_place_of_a_unit_that_falls_the_verifier_writes_to_the_end_of_its_own(
    stub: Any, codec: Codec, worker: TextWorker
) -> None:
    async with opened(stub, codec, Threshold(0.1)) as drafts:
        first = await drafts.next()
        stands(drafts, first)
        fallen = await drafts.next()
        drafts.judged(fallen, verdict(fallen, 0, codec.encode(" It")))
        for text in [" is", " deep", "."]:
            assert (await drafts.next()).tokens == ()
            assert len(worker.requests) == 1
            stands(drafts, ALONE, codec.encode(text))
        async with asyncio.timeout(5):
            await worker.idle.wait()
        # The sentence is known to be over once the next one begins.
        assert (await drafts.next()).tokens == ()
        worker.write = lambda said: " blue. Fish live there."
        stands(drafts, ALONE, codec.encode(" And"))
        assert spelled(codec, await drafts.next()) == " blue."
        assert worker.said[-1] == "The sea is very wide. It is deep. And"


async def test_a_rest_cancels_the_call_and_the_next_one_continues_what_was_said(
    stub: Any, codec: Codec, worker: TextWorker
) -> None:
    async with opened(stub, codec, Lossless()) as drafts:
        worker.hold_at = 2
        await drafts.next()
        await worker.begun.wait()
        stands(drafts, ALONE, codec.encode("The"))
        await drafts.rest()
        async with asyncio.timeout(5):
            await worker.idle.wait()
        stands(drafts, ALONE, codec.encode(" sea"))
        worker.hold_at = None
        await drafts.ask(Plan(2))
        await drafts.next()
        stands(drafts, ALONE, codec.encode(" is"))
        assert spelled(codec, await drafts.next()) == " very wide"
    assert worker.said == ["", "The sea"]


async def test_within_a_character_the_verifier_goes_on_alone(
    stub: Any, codec: Codec, worker: TextWorker
) -> None:
    first, *rest = codec.encode("\U0001f600")
    assert rest, "a character of several tokens"
    async with opened(stub, codec, Lossless()) as drafts:
        await drafts.next()
        stands(drafts, ALONE, [first])
        await drafts.next()
        stands(drafts, ALONE, rest[:-1])
        await drafts.next()
        assert len(worker.requests) == 1
        stands(drafts, ALONE, rest[-1:])
        worker.begun.clear()
        await drafts.next()
        await worker.begun.wait()
    assert worker.said[-1] == "\U0001f600"


async def test_the_likeliest_text_is_asked_for_where_nothing_else_pays(
    stub: Any, codec: Codec, worker: TextWorker
) -> None:
    for rule in (Lossless(), Threshold(0.1)):
        async with opened(stub, codec, rule) as drafts:
            worker.begun.clear()
            await drafts.next()
            await worker.begun.wait()
    exact, threshold = (request.prompt.sampling.temperature for request in worker.requests)
    assert exact == 0.0
    assert threshold == pytest.approx(0.7)
