"""The Draft stream and its verifier agree on the text, whatever the verdicts and whenever they come."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.table_model import VOCABULARY, TableSession, greedy
from weir.common.errors import ErrorCode, WeirError
from weir.engines.base import Sampling, TokenInfo
from weir.engines.text.lookup import NgramIndex
from weir.slm_worker.draft_line import DraftedChunk, DraftLine, Method, Verdict
from weir.slm_worker.draft_stream import MAX_CHUNKING, draft_stream
from weir.slm_worker.drafting import Drafter
from weir.verifier.chunk_standing import Standing

PROMPT = [1, 2, 3]


def _drafter(
    session: TableSession | None = None,
    *,
    limit: int = 60,
    ahead: int = 1,
    stop: frozenset[int] = frozenset(),
    index: NgramIndex | None = None,
) -> Drafter:
    line = DraftLine(PROMPT, stop, limit, ahead)
    return Drafter(line, Sampling(temperature=0.0), 4, session=session, index=index)


def _ids(chunk: DraftedChunk) -> list[int]:
    return [token.id for token in chunk.tokens]


def _copy(text: list[int], count: int) -> list[int]:
    index = NgramIndex(3, 2)
    index.extend(text)
    proposal = index.propose(count)
    return list(proposal.ids) if proposal else []


class Judge:
    """A verifier that knows the sequence by what it is sent, and says what the script makes of each chunk."""

    def __init__(self, ahead: int, choices: random.Random) -> None:
        self.said = list(PROMPT)
        self.judged = 0
        self._standing = Standing(ahead)
        self._choices = choices
        self._chunks: asyncio.Queue[DraftedChunk | None] = asyncio.Queue()

    def see(self, chunk: DraftedChunk | None) -> None:
        self._chunks.put_nowait(chunk)

    async def verdicts(self) -> AsyncGenerator[Verdict, None]:
        while chunk := await self._chunks.get():
            assert chunk.number is not None
            assert chunk.number > self._standing.latest
            skipped = self._standing.place(chunk.number, _ids(chunk))
            if skipped is None:
                continue
            for _ in range(self._choices.randrange(4)):
                await asyncio.sleep(0)
            yield self._judge(chunk, skipped)

    def _judge(self, chunk: DraftedChunk, skipped: int) -> Verdict:
        new, choices = _ids(chunk)[skipped:], self._choices
        if chunk.method is Method.MODEL:
            assert new == greedy(self.said, len(new))
        else:
            assert _ids(chunk) == _copy(self.said[: len(self.said) - skipped], len(chunk.tokens))
        accepted = len(new) if choices.random() < 0.6 else choices.randint(0, len(new))
        self.said += new[:accepted]
        # More often than not what the drafter will have said itself.
        own = greedy(self.said, choices.randrange(7))
        if own and choices.random() < 0.3:
            own[choices.randrange(len(own))] = choices.randrange(1, VOCABULARY)
        self.said += own
        ahead = choices.choice([0, 0, 1, 2, 4])
        assert chunk.number is not None
        whole = accepted == len(new)
        self._standing.judged(chunk.number, whole=whole, correction=own, chunks_ahead=ahead)
        self.judged += 1
        return Verdict(chunk.number, skipped + accepted, tuple(own), choices.choice([0, 1, 3, 6]), ahead)


@pytest.mark.parametrize("method", ["model", "lookup", "auto"])
@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 4))
def test_both_sides_agree_on_the_text_whatever_the_verdicts(method: str, seed: int, ahead: int) -> None:
    async def run() -> None:
        session = None if method == "lookup" else TableSession()
        index = None if method == "model" else NgramIndex(3, 2)
        drafter = _drafter(session, limit=90, ahead=ahead, index=index, stop=frozenset({0}))
        judge = Judge(ahead, random.Random(seed))
        async with asyncio.timeout(5), aclosing(draft_stream(drafter, judge.verdicts())) as stream:
            async for chunk in stream:
                judge.see(chunk)
                if judge.judged > 60:
                    judge.see(None)
        said = drafter.line.ids[: len(judge.said)]
        assert said == judge.said[: len(said)]
        assert drafter.done or judge.judged > 60

    asyncio.run(run())


class Verifier:
    """Gives the verdicts that the test has prepared, one for each chunk that it is shown."""

    def __init__(self, *verdicts: Verdict) -> None:
        self._prepared = list(verdicts)
        self._given: asyncio.Queue[Verdict | None] = asyncio.Queue()
        self.taken = asyncio.Event()

    def see(self, _: DraftedChunk) -> None:
        self.give(self._prepared.pop(0) if self._prepared else None)

    def give(self, verdict: Verdict | None) -> None:
        self._given.put_nowait(verdict)

    async def verdicts(self) -> AsyncGenerator[Verdict, None]:
        while (verdict := await self._given.get()) is not None:
            yield verdict
            self.taken.set()


async def _chunks(verifier: Verifier, drafter: Drafter) -> list[tuple[int | None, int]]:
    sent = []
    async with aclosing(draft_stream(drafter, verifier.verdicts())) as stream:
        async for chunk in stream:
            sent.append((chunk.number, len(chunk.tokens)))
            verifier.see(chunk)
    return sent


async def test_stream_waits_for_verdicts_past_the_chunks_ahead() -> None:
    verifier = Verifier(Verdict(0, 4))
    async with aclosing(draft_stream(_drafter(TableSession(), ahead=2), verifier.verdicts())) as stream:
        first = await anext(stream)
        assert [first.number, (await anext(stream)).number] == [0, 1]
        third = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        assert not third.done()
        verifier.see(first)
        assert (await third).number == 2


async def test_stream_ends_with_the_verdicts() -> None:
    verifier = Verifier(Verdict(0, 4), Verdict(1, 1, (7,)))
    assert await _chunks(verifier, _drafter(TableSession())) == [(0, 4), (1, 4), (2, 4)]


async def test_stream_ends_with_the_accepted_limit() -> None:
    drafter = _drafter(TableSession(), limit=len(PROMPT) + 6)
    assert await _chunks(Verifier(Verdict(0, 4), Verdict(1, 2)), drafter) == [(0, 4), (1, 2)]
    assert (drafter.drafted, drafter.accepted) == (6, 6)


async def test_verdict_changes_the_sizes_from_the_next_chunk_on() -> None:
    verifier = Verifier(Verdict(0, 4, (), next_tokens=2), Verdict(1, 2), Verdict(2, 2, (), next_tokens=7))
    assert await _chunks(verifier, _drafter(TableSession())) == [(0, 4), (1, 2), (2, 2), (3, 7)]


class Gated(TableSession):
    """A session whose drafts wait for ``gate``."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.entered = asyncio.Event(), asyncio.Event()
        self.gate.set()

    async def draft(self, *args: object, **kwargs: object) -> list[TokenInfo]:
        self.entered.set()
        await self.gate.wait()
        return await super().draft(*args, **kwargs)  # type: ignore[arg-type]


async def _second_chunk(verdict: Callable[[DraftedChunk], Verdict]) -> tuple[DraftedChunk, DraftedChunk]:
    """Return the first chunk, and the next that is sent when a verdict comes while a second is drafted."""
    session, verifier = Gated(), Verifier()
    async with (
        aclosing(draft_stream(_drafter(session, ahead=2), verifier.verdicts())) as stream,
        asyncio.timeout(5),
    ):
        first = await anext(stream)
        session.gate.clear()
        session.entered.clear()
        second = asyncio.ensure_future(anext(stream))
        await session.entered.wait()
        verifier.give(verdict(first))
        await verifier.taken.wait()
        session.gate.set()
        return first, await second


async def test_chunk_voided_while_it_was_drafted_is_not_sent() -> None:
    first, second = await _second_chunk(lambda _: Verdict(0, 2, (5,)))
    assert second.number == 2
    assert _ids(second) == greedy([*PROMPT, *_ids(first)[:2], 5], 4)


async def test_chunk_confirmed_while_it_was_drafted_is_sent() -> None:
    follows = greedy(PROMPT, 5)[-1]
    first, second = await _second_chunk(lambda _: Verdict(0, 4, (follows,)))
    assert second.number == 1
    assert _ids(second) == greedy([*PROMPT, *_ids(first)], 4)


@pytest.mark.parametrize("verdict", [Verdict(5, 1), Verdict(0, 5), Verdict(1, 0)])
async def test_wrong_verdict_is_refused_as_it_is(verdict: Verdict) -> None:
    with pytest.raises(WeirError) as caught:
        await _chunks(Verifier(verdict), _drafter(TableSession()))
    assert caught.value.code is ErrorCode.INVALID_REQUEST


async def test_flood_of_verdicts_is_refused() -> None:
    async def flood() -> AsyncGenerator[Verdict, None]:
        for _ in range(MAX_CHUNKING + 2):
            yield Verdict(0, 4)

    session = Gated()
    session.gate.clear()
    async with aclosing(draft_stream(_drafter(session), flood())) as stream:
        first = asyncio.ensure_future(anext(stream))
        await session.entered.wait()
        session.gate.set()
        with pytest.raises(WeirError) as caught:
            await first
    assert caught.value.code is ErrorCode.INVALID_REQUEST
