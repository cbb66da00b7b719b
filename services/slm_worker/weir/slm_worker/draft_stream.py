"""The Draft stream: chunks out, verdicts in, so many chunks ahead of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass

from weir.common.config.model import LocalModel
from weir.common.inference import Inference
from weir.common.prompts import PromptSpec
from weir.engines.base import SessionEngine, TokenInfo
from weir.slm_worker.completion import Account, cost_usd
from weir.slm_worker.drafting import Drafter


@dataclass(frozen=True, slots=True)
class Verdict:
    """How much of chunk ``sequence`` stands, and the tokens to continue from instead."""

    sequence: int
    accepted: int
    correction: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Chunk:
    """Drafted tokens."""

    sequence: int
    tokens: list[TokenInfo]


@dataclass(frozen=True, slots=True)
class Chunking:
    """Tokens per chunk, and chunks that may be without a verdict."""

    tokens: int
    ahead: int


class _Inbox:
    """Verdicts as they come; at their end ``None``, again and again."""

    def __init__(self, verdicts: AsyncIterator[Verdict]) -> None:
        self._queue: asyncio.Queue[Verdict | None] = asyncio.Queue()
        self._reader = asyncio.create_task(self._receive(verdicts))

    async def _receive(self, verdicts: AsyncIterator[Verdict]) -> None:
        try:
            async for verdict in verdicts:
                self._queue.put_nowait(verdict)
        finally:
            self._queue.put_nowait(None)

    def waiting(self) -> bool:
        return not self._queue.empty()

    async def take(self) -> Verdict | None:
        """Return the next verdict. Raises what reading them raised, once those before it are taken."""
        verdict = await self._queue.get()
        if verdict is None:
            self._queue.put_nowait(None)
            await self._reader
        return verdict

    async def aclose(self) -> None:
        self._reader.cancel()
        await asyncio.wait([self._reader])


async def draft_stream(
    drafter: Drafter, verdicts: AsyncIterator[Verdict], chunk_tokens: int, chunks_ahead: int
) -> AsyncGenerator[Chunk, None]:
    """Draft until the verifier has taken the end, or says no more.

    At most ``chunks_ahead`` chunks are without a verdict. A rejected chunk ``s`` voids what was drafted after
    it; the first chunk drafted anew is numbered ``s + chunks_ahead``, above every void one, so that the
    verifier can tell them apart. Verdicts on void chunks are neither needed nor wanted.
    """
    async with aclosing(_Inbox(verdicts)) as inbox:
        sequence, open_chunks = 0, 0
        while True:
            while open_chunks < chunks_ahead and not drafter.ended and not inbox.waiting():
                tokens = await drafter.draft(sequence, chunk_tokens)
                yield Chunk(sequence, tokens)
                sequence, open_chunks = sequence + 1, open_chunks + 1
            if not open_chunks and drafter.ended:
                return
            verdict = await inbox.take()
            if verdict is None:
                return
            if await drafter.settle(verdict.sequence, verdict.accepted, verdict.correction):
                open_chunks -= 1
            else:
                sequence, open_chunks = verdict.sequence + chunks_ahead, 0


async def draft(
    engine: SessionEngine,
    spec: PromptSpec,
    verdicts: AsyncIterator[Verdict],
    chunking: Chunking,
    run: LocalModel,
) -> AsyncGenerator[Chunk | Account, None]:
    """Yield chunks, then the account of the whole draft. Closing it frees the session."""
    arrived, info, sampling = time.perf_counter(), engine.info, spec.sampling
    prompt_ids = engine.codec.encode_chat(spec.messages)
    limit = min(info.max_context, len(prompt_ids) + (sampling.max_tokens or info.max_context))
    with Inference("draft", info, sampling) as inference:
        async with aclosing(await engine.open_session()) as session:
            drafter = Drafter(session, prompt_ids, sampling, engine.codec.stop_ids, limit)
            chunks = draft_stream(drafter, verdicts, chunking.tokens, chunking.ahead)
            async with aclosing(chunks):
                async for chunk in chunks:
                    inference.tokens(len(chunk.tokens))
                    yield chunk
        inference.finish(len(prompt_ids), 0, drafter.drafted, drafter.finish_reason)
    yield Account(
        finish_reason=drafter.finish_reason,
        prompt_tokens=len(prompt_ids),
        cached_prompt_tokens=0,
        completion_tokens=drafter.drafted,
        cost_usd=cost_usd(run, len(prompt_ids), drafter.drafted),
        queue_s=0.0,
        first_token_s=inference.first_token_s,
        total_s=time.perf_counter() - arrived,
        drafted_tokens=drafter.drafted,
        accepted_tokens=drafter.accepted,
    )
