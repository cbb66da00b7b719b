"""The Draft stream: chunks out, verdicts in, so many chunks ahead of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass

from weir.common.config.model import SlmTier
from weir.common.errors import ErrorCode, WeirError
from weir.common.inference import Inference
from weir.common.prompts import PromptSpec
from weir.engines.base import Engine
from weir.engines.text.lookup import NgramIndex
from weir.slm_worker import measures
from weir.slm_worker.choice import Choice
from weir.slm_worker.completion import Account, cost_usd
from weir.slm_worker.draft_line import DraftedChunk, DraftLine, Verdict
from weir.slm_worker.drafting import Drafter
from weir.slm_worker.sessions import drafting_engine

# The most tokens of a chunk, and the most chunks ahead; verdicts past it cannot all have a chunk.
MAX_CHUNKING = 64


@dataclass(frozen=True, slots=True)
class Chunking:
    """Tokens per chunk, chunks that may be without a verdict, and how sure the model must be of a token."""

    tokens: int
    ahead: int
    min_confidence: float = 0.0


class _Inbox:
    """Verdicts with the time at which they came; at their end ``None``, again and again."""

    def __init__(self, verdicts: AsyncIterator[Verdict]) -> None:
        self._queue: asyncio.Queue[tuple[Verdict, float] | None] = asyncio.Queue()
        self._reader = asyncio.create_task(self._receive(verdicts))

    async def _receive(self, verdicts: AsyncIterator[Verdict]) -> None:
        try:
            async for verdict in verdicts:
                if self._queue.qsize() > MAX_CHUNKING:
                    hint = "There are more verdicts than chunks."
                    raise WeirError(ErrorCode.INVALID_REQUEST, hint, fields={"ack": "too many"})
                self._queue.put_nowait((verdict, time.perf_counter()))
        finally:
            self._queue.put_nowait(None)

    def waiting(self) -> bool:
        return not self._queue.empty()

    async def take(self) -> tuple[Verdict, float] | None:
        """Return the next verdict. Raises what reading them raised, once those before it are taken."""
        came = await self._queue.get()
        if came is None:
            self._queue.put_nowait(None)
            await self._reader
        return came

    async def aclose(self) -> None:
        self._reader.cancel()
        await asyncio.wait([self._reader])


async def draft_stream(
    drafter: Drafter, verdicts: AsyncIterator[Verdict], model: str = ""
) -> AsyncGenerator[DraftedChunk, None]:
    """Draft until the verifier has taken the end, or says no more.

    Verdicts go first: what came while a chunk was drafted may void it, and then it is not sent. ``model`` is
    the name in the metrics. Raises WeirError INVALID_REQUEST for a verdict that fits no chunk.
    """
    held: DraftedChunk | None = None
    async with aclosing(_Inbox(verdicts)) as inbox:
        while not drafter.done:
            if inbox.waiting() or not (held or drafter.may_draft):
                came = await inbox.take()
                if came is None:
                    return
                measures.voided(model, drafter.settle(*came).voided)
                held = held if held and drafter.line.holds(held) else None
            elif held:
                chunk, held = held, None
                drafter.send(chunk)
                yield chunk
            elif held := await drafter.draft():
                measures.drafted(model, held.method, len(held.tokens), held.seconds)


async def draft(
    engine: Engine,
    spec: PromptSpec,
    verdicts: AsyncIterator[Verdict],
    chunking: Chunking,
    tier: SlmTier,
    seen: Choice | None = None,
) -> AsyncGenerator[DraftedChunk | Account, None]:
    """Yield chunks, then the account of the whole draft. Closing it frees the session.

    ``seen`` is what the worker's streams have seen of their methods.

    Raises:
        WeirError: UNSUPPORTED, CONTEXT_TOO_LONG, QUEUE_FULL, ENGINE_CRASHED, or INVALID_REQUEST for a verdict
            that fits no chunk.
    """
    arrived, info = time.perf_counter(), engine.info
    with Inference("draft", info, spec.sampling) as inference:
        async with AsyncExitStack() as stack:
            drafter = await _open(stack, engine, spec, chunking, tier, seen)
            prompt_tokens = len(drafter.line.ids)
            chunks = draft_stream(drafter, verdicts, info.model)
            await stack.enter_async_context(aclosing(chunks))
            async for chunk in chunks:
                inference.tokens(len(chunk.tokens))
                yield chunk
        inference.finish(prompt_tokens, 0, drafter.drafted, drafter.finish_reason)
    yield Account(
        finish_reason=drafter.finish_reason,
        prompt_tokens=prompt_tokens,
        cached_prompt_tokens=0,
        completion_tokens=drafter.drafted,
        # What was copied cost nothing, nor did the prompt where the model never read it.
        cost_usd=cost_usd(tier.run, prompt_tokens, drafter.decoded) if drafter.decoded else 0.0,
        queue_s=0.0,
        first_token_s=inference.first_token_s,
        total_s=time.perf_counter() - arrived,
        drafted_tokens=drafter.drafted,
        accepted_tokens=drafter.accepted,
    )


async def _open(
    stack: AsyncExitStack,
    engine: Engine,
    spec: PromptSpec,
    chunking: Chunking,
    tier: SlmTier,
    seen: Choice | None,
) -> Drafter:
    """Return a drafter at the end of the prompt; ``stack`` closes its session."""
    source, method = drafting_engine(engine, tier.drafting.method)
    info, codec, sampling = source.info, source.codec, spec.sampling
    index = None if method == "model" else NgramIndex(tier.drafting.max_ngram, tier.drafting.min_ngram)

    def read() -> list[int]:
        ids = codec.encode_chat(spec.messages)
        if len(ids) < info.max_context and index is not None:
            index.extend(ids)
        return ids

    prompt_ids = await asyncio.to_thread(read)
    if len(prompt_ids) >= info.max_context:
        hint = f"{len(prompt_ids)} tokens leave no room in the context of {info.max_context}."
        raise WeirError(ErrorCode.CONTEXT_TOO_LONG, hint)
    limit = min(info.max_context, len(prompt_ids) + (sampling.max_tokens or info.max_context))
    line = DraftLine(prompt_ids, codec.stop_ids, limit, chunking.ahead)
    session = None
    if method != "lookup":
        session = await stack.enter_async_context(aclosing(await source.open_session()))
    return Drafter(
        line,
        sampling,
        chunking.tokens,
        session=session,
        index=index,
        min_confidence=chunking.min_confidence,
        seen=seen,
    )
