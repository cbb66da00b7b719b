"""Sessions of the OpenVINO engine on the embedded model: exact whatever the chunking, in shared passes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio

from weir.common.config.model import LocalModel
from weir.common.errors import ErrorCode, WeirError
from weir.engines import openvino
from weir.engines.base import ChatMessage, Prediction, Sampling
from weir.engines.core.engine import CoreEngine

pytestmark = pytest.mark.asyncio(loop_scope="module")

GREEDY = Sampling(temperature=0.0)
QUESTION = (ChatMessage("user", "Name three rivers of Europe and the countries that they pass."),)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(embedded_model: Path) -> AsyncIterator[CoreEngine]:
    """One engine for the module, with a cache of a few hundred tokens' blocks for each session."""
    running = LocalModel(max_sessions=8, kv_cache_gb=0.1)
    engine = openvino.create("embedded", embedded_model, running, max_context=4096, sessions_only=True)
    await engine.start()
    yield engine
    await engine.aclose()


def logits(predictions: list[Prediction]) -> np.ndarray:
    """Return the logits of some predictions, shape [n, vocab]."""
    return np.stack([one.logits for one in predictions if one.logits is not None])


async def fed(engine: CoreEngine, ids: list[int], *cuts: int) -> np.ndarray:
    """Feed ``ids`` to a new session in pieces of the given lengths, over and over."""
    found: list[np.ndarray] = []
    at = 0
    async with aclosing(await engine.open_session()) as session:
        while at < len(ids):
            count = cuts[len(found) % len(cuts)]
            found.append(logits(await session.extend(ids[at : at + count], logits=True)))
            at += count
    return np.concatenate(found)


@pytest.mark.parametrize("cuts", [(1,), (2, 3), (5, 9, 4), (17,)])
async def test_logits_are_the_same_bits_whatever_the_chunking(
    engine: CoreEngine, cuts: tuple[int, ...]
) -> None:
    ids = engine.codec.encode_chat(QUESTION)
    assert np.array_equal(await fed(engine, ids, len(ids)), await fed(engine, ids, *cuts))


async def test_logits_are_the_same_bits_in_company(engine: CoreEngine) -> None:
    ids = engine.codec.encode_chat(QUESTION)
    alone = await fed(engine, ids, 4)
    together = await asyncio.gather(*(fed(engine, ids, cut) for cut in (4, 3, 7, 1)))
    assert all(np.array_equal(alone, one) for one in together)


async def test_a_rewound_session_goes_on_as_if_nothing_else_had_been_fed(engine: CoreEngine) -> None:
    ids = engine.codec.encode_chat(QUESTION)
    async with aclosing(await engine.open_session()) as session:
        await session.extend(ids[:20], last_only=True)
        await session.extend(list(range(300, 340)), last_only=True)
        await session.rewind(20)
        again = logits(await session.extend(ids[20:], logits=True))
    assert np.array_equal(again, (await fed(engine, ids, len(ids)))[20:])


async def test_sessions_that_work_at_once_share_passes(engine: CoreEngine) -> None:
    ids = engine.codec.encode_chat(QUESTION)
    sessions = [await engine.open_session() for _ in range(4)]
    await asyncio.gather(*(session.draft(ids, 12, sampling=GREEDY) for session in sessions))
    shared = [session.last_pass.sequences for session in sessions if session.last_pass]
    for session in sessions:
        await session.aclose()
    assert max(shared) > 1


async def test_a_draft_leaves_its_last_token_to_be_fed(engine: CoreEngine) -> None:
    ids = engine.codec.encode_chat(QUESTION)
    async with aclosing(await engine.open_session()) as session:
        first = await session.draft(ids, 6, sampling=GREEDY)
        assert session.length == len(ids) + 5
        more = await session.draft([first[-1].id], 6, sampling=GREEDY)
        await session.rewind(0)
        whole = await session.draft(ids, 12, sampling=GREEDY)
    assert [token.id for token in whole] == [token.id for token in (*first, *more)]
    assert all(token.logprob is not None and token.logprob <= 0 for token in whole)


async def test_a_draft_ends_after_a_stop_id(engine: CoreEngine) -> None:
    ids = engine.codec.encode_chat(QUESTION)
    async with aclosing(await engine.open_session()) as session:
        whole = [token.id for token in await session.draft(ids, 8, sampling=GREEDY)]
        await session.rewind(0)
        cut = await session.draft(ids, 8, sampling=GREEDY, stop_ids=frozenset({whole[3]}))
    assert [token.id for token in cut] == whole[: whole.index(whole[3]) + 1]


async def test_a_draft_ends_before_a_token_that_is_not_likely_enough(engine: CoreEngine) -> None:
    ids = engine.codec.encode_chat(QUESTION)
    async with aclosing(await engine.open_session()) as session:
        whole = await session.draft(ids, 8, sampling=GREEDY)
        least = min(range(8), key=lambda index: whole[index].logprob or 0.0)
        bound = float(np.exp(whole[least].logprob or 0.0)) * 1.0001
        await session.rewind(0)
        cut = await session.draft(ids, 8, sampling=GREEDY, min_confidence=bound)
        assert session.length == len(ids) + len(cut)
    assert [token.id for token in cut] == [token.id for token in whole[:least]]


async def test_a_sampled_draft_tells_the_whole_distribution_and_follows_its_seed(engine: CoreEngine) -> None:
    ids = engine.codec.encode_chat(QUESTION)
    sampling = Sampling(temperature=0.8, top_p=0.9, seed=5)
    async with aclosing(await engine.open_session()) as session:
        once = await session.draft(ids, 6, sampling=sampling)
        await session.rewind(0)
        again = await session.draft(ids, 6, sampling=sampling)
        await session.rewind(0)
        other = await session.draft(ids, 6, sampling=replace(sampling, seed=6))
    assert once == again != other
    for token in once:
        assert sum(np.exp(entry.logprob) for entry in token.top) == pytest.approx(1.0)
        assert token.id in {entry.id for entry in token.top}


async def test_a_full_cache_refuses_one_session_and_is_whole_again_after_it(engine: CoreEngine) -> None:
    greedy = engine.codec.encode("river ") * 4000
    async with (
        aclosing(await engine.open_session()) as other,
        aclosing(await engine.open_session()) as session,
    ):
        await other.extend(greedy[:8])
        with pytest.raises(WeirError) as refused:
            await session.extend(greedy[:4000], last_only=True)
        assert refused.value.code is ErrorCode.QUEUE_FULL
        assert len(await other.extend(greedy[:4])) == 4
    async with aclosing(await engine.open_session()) as session:
        assert await session.extend(greedy[:600], last_only=True)
