"""Drafting follows any sequence of verdicts, and never recomputes what was accepted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.table_model import VOCABULARY, TableSession, greedy, logits_after
from weir.common.errors import ErrorCode, WeirError
from weir.engines.base import Candidate, Prediction, Sampling
from weir.slm_worker.draft_stream import Chunk, Verdict, draft_stream
from weir.slm_worker.drafting import Drafter, choose

PROMPT = [1, 2, 3]


def _drafter(session: TableSession, limit: int = 40, stop: frozenset[int] = frozenset()) -> Drafter:
    return Drafter(session, PROMPT, Sampling(temperature=0.0), stop, limit)


@given(
    st.lists(st.tuples(st.integers(0, 4), st.lists(st.integers(0, VOCABULARY - 1), max_size=2)), max_size=8)
)
def test_any_verdicts_leave_the_greedy_continuation(verdicts: list[tuple[int, list[int]]]) -> None:
    async def run() -> None:
        session = TableSession()
        drafter, ids = _drafter(session, limit=200), list(PROMPT)
        for sequence, (accepted, correction) in enumerate(verdicts):
            drafted = [token.id for token in await drafter.draft(sequence, 4)]
            assert drafted == greedy(ids, 4)
            await drafter.settle(sequence, accepted, correction)
            ids += [*drafted[:accepted], *correction]
        assert [token.id for token in await drafter.draft(99, 4)] == greedy(ids, 4)

    asyncio.run(run())


async def test_accepted_tokens_are_fed_once() -> None:
    session = TableSession()
    drafter = _drafter(session)
    for sequence in range(4):
        await drafter.draft(sequence, 4)
        await drafter.settle(sequence, 4, [])
    assert session.fed == len(PROMPT) + 4 * 4 - 1


async def test_chunks_after_a_rejection_are_void() -> None:
    drafter = _drafter(TableSession())
    await drafter.draft(0, 4)
    await drafter.draft(1, 4)
    assert not await drafter.settle(0, 2, [5])
    with pytest.raises(WeirError) as caught:
        await drafter.settle(1, 4, [])
    assert caught.value.code is ErrorCode.INVALID_REQUEST


async def test_chunks_after_an_acceptance_stand() -> None:
    drafter = _drafter(TableSession())
    first = await drafter.draft(0, 4)
    second = await drafter.draft(1, 4)
    assert await drafter.settle(0, 4, [])
    assert [token.id for token in [*first, *second]] == greedy(PROMPT, 8)


async def test_more_accepted_than_drafted_is_refused() -> None:
    drafter = _drafter(TableSession())
    await drafter.draft(0, 2)
    with pytest.raises(WeirError):
        await drafter.settle(0, 3, [])


async def test_limit_ends_the_draft() -> None:
    drafter = _drafter(TableSession(), limit=len(PROMPT) + 3)
    assert len(await drafter.draft(0, 8)) == 3
    assert drafter.ended


class Verifier:
    """Gives the verdicts that the test has prepared, one for each chunk that it is shown."""

    def __init__(self, *verdicts: Verdict) -> None:
        self._prepared = list(verdicts)
        self._given: asyncio.Queue[Verdict | None] = asyncio.Queue()

    def see(self, _: Chunk) -> None:
        self._given.put_nowait(self._prepared.pop(0) if self._prepared else None)

    async def verdicts(self) -> AsyncGenerator[Verdict, None]:
        while (verdict := await self._given.get()) is not None:
            yield verdict


async def _numbers(verifier: Verifier, ahead: int) -> list[int]:
    numbers = []
    async for chunk in draft_stream(_drafter(TableSession()), verifier.verdicts(), 4, ahead):
        numbers.append(chunk.sequence)
        verifier.see(chunk)
    return numbers


async def test_stream_waits_for_verdicts_past_the_chunks_ahead() -> None:
    verifier = Verifier(Verdict(0, 4, ()))
    stream = draft_stream(_drafter(TableSession()), verifier.verdicts(), 4, 2)
    first = await anext(stream)
    assert [first.sequence, (await anext(stream)).sequence] == [0, 1]
    third = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    assert not third.done()
    verifier.see(first)
    assert (await third).sequence == 2
    await stream.aclose()


async def test_stream_ends_with_the_verdicts() -> None:
    assert await _numbers(Verifier(Verdict(0, 4, ()), Verdict(1, 1, (7,))), ahead=1) == [0, 1, 2]


async def test_stream_ends_with_the_accepted_limit() -> None:
    session, verifier = TableSession(), Verifier(Verdict(0, 4, ()), Verdict(1, 2, ()))
    chunks = []
    async for chunk in draft_stream(_drafter(session, len(PROMPT) + 6), verifier.verdicts(), 4, 1):
        chunks.append(len(chunk.tokens))
        verifier.see(chunk)
    assert chunks == [4, 2]


async def test_wrong_verdict_is_refused_as_it_is() -> None:
    with pytest.raises(WeirError) as caught:
        await _numbers(Verifier(Verdict(5, 1, ())), ahead=1)
    assert caught.value.code is ErrorCode.INVALID_REQUEST


def test_sampled_draft_carries_its_whole_distribution() -> None:
    row = logits_after([1, 2]).astype(np.float64)
    logprobs = row - np.logaddexp.reduce(row)
    order = np.argsort(-logprobs)
    prediction = Prediction(tuple(Candidate(int(i), float(logprobs[i])) for i in order))
    rng, counts = np.random.default_rng(7), dict[int, int]()
    sampling = Sampling(temperature=0.7, top_k=6, top_p=0.95)
    tokens = [choose(prediction, sampling, rng) for _ in range(4000)]
    for token in tokens:
        counts[token.id] = counts.get(token.id, 0) + 1
    q = {candidate.id: float(np.exp(candidate.logprob)) for candidate in tokens[0].top}
    assert sum(q.values()) == pytest.approx(1)
    assert set(counts) <= set(q)
    for token_id, share in q.items():
        assert counts.get(token_id, 0) / 4000 == pytest.approx(share, abs=0.04)
