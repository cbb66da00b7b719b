"""The drafter's side of an answer: a worker's Draft stream, which may fail without harm."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import structlog

from weir.common.calls import Bidi, bidi
from weir.common.errors import ErrorCode, WeirError
from weir.common.prompts import PromptSpec
from weir.v1 import slm_worker_pb2
from weir.verifier import convert
from weir.verifier.acceptance import DraftToken
from weir.verifier.rounds import Round
from weir.verifier.sequence import require_tokenizer
from weir.verifier.upstream import Upstream

if TYPE_CHECKING:
    from weir.v1 import slm_worker_pb2_grpc

log = structlog.get_logger(__name__)
T = TypeVar("T")
_DraftCall: TypeAlias = Bidi[slm_worker_pb2.DraftRequest, slm_worker_pb2.DraftResponse]
WorkerStub: TypeAlias = "slm_worker_pb2_grpc.SlmWorkerServiceAsyncStub"

# Waiting longer than this for a chunk is worse than decoding alone.
PATIENCE_S = 15.0
# The verifier adds a token of its own to every chunk, so that anything drafted past it would be void.
CHUNKS_AHEAD = 1


@dataclass(frozen=True, slots=True)
class Chunk:
    """Drafted tokens; ``sequence`` is ``None`` where no drafter waits for a verdict."""

    sequence: int | None = None
    tokens: tuple[DraftToken, ...] = ()


class DraftStream:
    """One answer's drafts. Once the drafter is gone, every chunk is empty and verdicts go nowhere."""

    def __init__(self, tokenizer_sha256: str, vocab_size: int) -> None:
        self._tokenizer_sha256 = tokenizer_sha256
        self._vocab_size = vocab_size
        self._stack = AsyncExitStack()
        self._call: _DraftCall | None = None
        self._first_valid = 0

    async def open(self, stub: WorkerStub, start: slm_worker_pb2.DraftStart) -> None:
        """Ask for drafts."""
        call: _DraftCall = await self._stack.enter_async_context(bidi(stub.Draft))
        self._call = call
        await self._attempt(call.write(slm_worker_pb2.DraftRequest(start=start)))

    async def next(self) -> Chunk:
        """Return the next chunk, empty where there is no drafter. Raises WeirError TOKENIZER_MISMATCH."""
        if self._call is None:
            return Chunk()
        response = await self._attempt(self._call.read())
        while response is not None and response.HasField("chunk") and self._void(response.chunk):
            response = await self._attempt(self._call.read())
        if response is None or not response.HasField("chunk"):
            await self._leave("drafter_finished")
            return Chunk()
        require_tokenizer(response.chunk.tokenizer_sha256, self._tokenizer_sha256)
        tokens = convert.drafts(response.chunk.tokens)
        if any(token.id >= self._vocab_size for token in tokens):
            await self._leave("drafter_out_of_vocabulary")
            return Chunk()
        return Chunk(response.chunk.sequence, tokens)

    async def answer(self, chunk: Chunk, verdict: Round) -> None:
        """Tell the drafter how much of its chunk stands and what comes next.

        After a correction the drafter numbers its next chunk ``sequence + CHUNKS_AHEAD``; those numbered
        lower were drafted before it came and are void.
        """
        if self._call is None or chunk.sequence is None:
            return
        correction = []
        if verdict.own:
            correction = [verdict.own.id]
            self._first_valid = chunk.sequence + CHUNKS_AHEAD
        ack = slm_worker_pb2.DraftAck(
            sequence=chunk.sequence, accepted=verdict.accepted, correction=correction
        )
        await self._attempt(self._call.write(slm_worker_pb2.DraftRequest(ack=ack)))

    async def aclose(self) -> None:
        """Cancel the call."""
        self._call = None
        await self._stack.aclose()

    def _void(self, chunk: slm_worker_pb2.DraftChunk) -> bool:
        return chunk.sequence < self._first_valid

    async def _attempt(self, step: Awaitable[T]) -> T | None:
        """Await one step of the call; where the drafter fails, log it and go on without one."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await step
        except TimeoutError:
            await self._leave("drafter_stalled")
        except WeirError as error:
            if error.code is ErrorCode.DEADLINE:
                raise
            await self._leave("drafter_failed", error)
        return None

    async def _leave(self, event: str, error: WeirError | None = None) -> None:
        if self._call is None:
            return
        self._call = None
        if error is None:
            log.info(event)
            await self._stack.aclose()
            return
        log.warning(event, code=error.code, detail=error.internal or error.hint)
        with suppress(WeirError):  # it passes through the call's span, which records it
            await self._stack.__aexit__(type(error), error, error.__traceback__)


@asynccontextmanager
async def drafting(
    workers: Upstream[WorkerStub],
    request_id: str,
    spec: PromptSpec,
    *,
    chunk_tokens: int,
    tokenizer_sha256: str,
    vocab_size: int,
) -> AsyncIterator[DraftStream]:
    """Open a stream of drafts; leaving the block cancels it."""
    stream = DraftStream(tokenizer_sha256, vocab_size)
    try:
        if stub := workers.next():
            start = convert.draft_start(request_id, spec, chunk_tokens, CHUNKS_AHEAD)
            await stream.open(stub, start)
        yield stream
    finally:
        await stream.aclose()
