"""Drafting follows any sequence of verdicts as the verifier does, and never recomputes what was accepted."""

from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.table_model import VOCABULARY, TableSession, greedy
from weir.engines.base import Sampling, TokenInfo
from weir.engines.text.lookup import NgramIndex
from weir.slm_worker.draft_line import DraftedChunk, DraftLine, Method, Verdict
from weir.slm_worker.drafting import Drafter

PROMPT = [1, 2, 3]
GREEDY = Sampling(temperature=0.0)


def _drafter(
    session: TableSession | None = None,
    *,
    tokens: int = 4,
    limit: int = 60,
    ahead: int = 1,
    stop: frozenset[int] = frozenset(),
    sampling: Sampling = GREEDY,
    index: NgramIndex | None = None,
    min_confidence: float = 0.0,
) -> Drafter:
    line = DraftLine(PROMPT, stop, limit, ahead)
    return Drafter(line, sampling, tokens, session=session, index=index, min_confidence=min_confidence)


def _ids(chunk: DraftedChunk | None) -> list[int]:
    assert chunk is not None
    return [token.id for token in chunk.tokens]


async def _sent(drafter: Drafter) -> DraftedChunk:
    chunk = await drafter.draft()
    assert chunk is not None
    drafter.send(chunk)
    return chunk


def _settle(drafter: Drafter, chunk: DraftedChunk, accepted: int, *correction: int) -> None:
    drafter.settle(Verdict(chunk.number or 0, accepted, correction), time.perf_counter())


@given(
    st.lists(st.tuples(st.integers(0, 4), st.lists(st.integers(0, VOCABULARY - 1), max_size=2)), max_size=8)
)
def test_any_verdicts_leave_the_greedy_continuation(verdicts: list[tuple[int, list[int]]]) -> None:
    async def run() -> None:
        drafter, ids = _drafter(TableSession(), limit=200), list(PROMPT)
        for accepted, correction in verdicts:
            chunk = await _sent(drafter)
            assert _ids(chunk) == greedy(ids, 4)
            _settle(drafter, chunk, accepted, *correction)
            ids += [*_ids(chunk)[:accepted], *correction]
        assert _ids(await drafter.draft()) == greedy(ids, 4)

    asyncio.run(run())


async def test_accepted_tokens_are_fed_once() -> None:
    session = TableSession()
    drafter = _drafter(session)
    for _ in range(4):
        chunk = await _sent(drafter)
        _settle(drafter, chunk, 4)
    assert session.fed == len(PROMPT) + 4 * 4 - 1


async def test_chunks_kept_by_a_correction_are_not_fed_again() -> None:
    session = TableSession()
    drafter = _drafter(session, ahead=3)
    chunks = [await _sent(drafter) for _ in range(3)]
    _settle(drafter, chunks[0], 4, _ids(chunks[1])[0])
    _settle(drafter, chunks[1], 4, _ids(chunks[2])[0])
    await _sent(drafter)
    assert session.fed == len(PROMPT) + 4 * 4 - 1


async def test_longer_correction_feeds_its_tail_alone() -> None:
    session = TableSession()
    drafter = _drafter(session, ahead=2)
    first, second = await _sent(drafter), await _sent(drafter)
    fed = session.fed
    _settle(drafter, first, 4, *_ids(second), 5, 6)
    await _sent(drafter)
    # The last drafted token had not been fed, nor the chunk's own three.
    assert session.fed == fed + 3 + 3


async def test_drafts_go_on_behind_a_correction() -> None:
    drafter = _drafter(TableSession(), ahead=2)
    first, second = await _sent(drafter), await _sent(drafter)
    text = [*PROMPT, *_ids(first), *_ids(second)]
    _settle(drafter, first, 4, _ids(second)[0])
    assert _ids(await _sent(drafter)) == greedy(text, 4)


async def test_unsure_model_ends_its_chunk_and_drafts_none_behind_it() -> None:
    drafter = _drafter(TableSession(), ahead=3, min_confidence=0.999999)
    chunk = await _sent(drafter)
    assert not chunk.tokens
    assert not drafter.may_draft
    _settle(drafter, chunk, 0, 5)
    assert drafter.may_draft
    assert drafter.line.ids == [*PROMPT, 5]


async def test_empty_chunk_behind_others_is_not_sent() -> None:
    drafter = _drafter(ahead=3, index=NgramIndex(2, 1))
    drafter.line.add(DraftedChunk(3, [TokenInfo(7)]))
    assert await drafter.draft() is None
    assert not drafter.may_draft


async def test_limit_ends_the_draft() -> None:
    drafter = _drafter(TableSession(), tokens=8, limit=len(PROMPT) + 3)
    assert len(_ids(await drafter.draft())) == 3
    assert drafter.line.ended


async def test_stop_token_ends_the_draft() -> None:
    stop = greedy(PROMPT, 3)[-1]
    drafter = _drafter(TableSession(), tokens=8, stop=frozenset({stop}))
    chunk = await _sent(drafter)
    assert _ids(chunk)[-1] == stop
    assert not drafter.may_draft
    _settle(drafter, chunk, len(chunk.tokens))
    assert drafter.done


async def test_sampled_draft_carries_its_whole_distribution() -> None:
    chunk = await _sent(_drafter(TableSession(), sampling=Sampling(temperature=0.7, seed=3)))
    for token in chunk.tokens:
        shares = [2.718281828**entry.logprob for entry in token.top]
        assert sum(shares) == pytest.approx(1.0)
        assert token.id in [entry.id for entry in token.top]


async def test_seed_repeats_a_draft_and_differs_by_position() -> None:
    class Seeds(TableSession):
        async def draft(self, *args: object, sampling: Sampling, **kwargs: object) -> list[TokenInfo]:
            seeds.append(sampling.seed)
            return await super().draft(*args, sampling=sampling, **kwargs)  # type: ignore[arg-type]

    runs = []
    for _ in range(2):
        seeds: list[int | None] = []
        drafter = _drafter(Seeds(), sampling=Sampling(temperature=1.0, seed=2**64 - 1), ahead=3)
        runs.append([_ids(await _sent(drafter)) for _ in range(3)])
        assert len(set(seeds)) == 3
        assert all(seed is not None and 0 <= seed < 2**64 for seed in seeds)
    assert runs[0] == runs[1]


async def test_copied_tokens_come_without_probabilities() -> None:
    drafter = _drafter(TableSession(), index=NgramIndex(3, 2))
    drafter.line.ids += [8, 1, 2, 3]
    chunk = await _sent(drafter)
    assert (chunk.method, _ids(chunk)) == (Method.LOOKUP, [8, 1, 2, 3])
    assert all(token.logprob is None and not token.top for token in chunk.tokens)
    assert drafter.decoded == 0


async def test_rejected_copies_give_way_to_the_model_which_reads_only_what_it_lacks() -> None:
    session = TableSession()
    drafter = _drafter(session, limit=400, index=NgramIndex(2, 1))
    methods = []
    for _ in range(12):
        chunk = await _sent(drafter)
        methods.append(chunk.method)
        right = greedy(drafter.line.ids[: chunk.start], 5)
        same = next((n for n, (a, b) in enumerate(zip(_ids(chunk), right, strict=False)) if a != b), 4)
        _settle(drafter, chunk, same, right[same])
    assert Method.MODEL in methods
    assert session.ids == drafter.line.ids[: session.length]
    assert drafter.line.ids[3:] == greedy(PROMPT, len(drafter.line.ids) - 3)


async def test_without_a_model_what_cannot_be_copied_is_left_empty() -> None:
    drafter = _drafter(tokens=2, index=NgramIndex(3, 2))
    chunk = await _sent(drafter)
    assert (chunk.method, chunk.tokens) == (Method.LOOKUP, [])
    _settle(drafter, chunk, 0, 1, 2)
    assert _ids(await _sent(drafter)) == [3, 1]


async def test_longer_chunks_asked_for_after_a_copy_are_not_the_models() -> None:
    drafter = _drafter(TableSession(), limit=400, index=NgramIndex(3, 2))
    drafter.line.ids += [8, 1, 2, 3]
    copied = await _sent(drafter)
    drafter.settle(Verdict(0, 4, (5, 7), next_tokens=12), time.perf_counter())
    decoded = await _sent(drafter)
    drafter.settle(Verdict(1, 0, (1, 2), next_tokens=6), time.perf_counter())
    assert [copied.method, decoded.method] == [Method.LOOKUP, Method.MODEL]
    assert len(decoded.tokens) == 4
    assert len((await _sent(drafter)).tokens) == 6
