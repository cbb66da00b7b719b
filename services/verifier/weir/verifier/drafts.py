"""The drafter's side of an answer: a worker's Draft stream, which may fail without harm."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias, TypeVar

import structlog

from weir.common.calls import Bidi, bidi
from weir.common.errors import ErrorCode, WeirError
from weir.common.prompts import PromptSpec
from weir.v1 import slm_worker_pb2
from weir.verifier import convert
from weir.verifier.acceptance import DraftToken
from weir.verifier.chunk_standing import Standing
from weir.verifier.rounds import Round
from weir.verifier.sequence import require_tokenizer
from weir.verifier.speculation.planner import Plan

if TYPE_CHECKING:
    from weir.v1 import slm_worker_pb2_grpc

log = structlog.get_logger(__name__)
T = TypeVar("T")
_DraftCall: TypeAlias = Bidi[slm_worker_pb2.DraftRequest, slm_worker_pb2.DraftResponse]
WorkerStub: TypeAlias = "slm_worker_pb2_grpc.SlmWorkerServiceAsyncStub"

# Waiting longer than this for a chunk is worse than decoding alone.
PATIENCE_S = 15.0


@dataclass(frozen=True, slots=True)
class Chunk:
    """Drafted tokens to judge; ``sequence`` is ``None`` where no drafter waits for a verdict.

    Attributes:
        tokens: without the first ``skipped`` of the chunk, which an earlier correction had said already.
        method: "model" or "lookup"; empty where nothing was asked of a drafter.
        draft_s: seconds that the worker took for the whole chunk.
        wait_s: seconds that the verifier waited for it.
    """

    sequence: int | None = None
    tokens: tuple[DraftToken, ...] = ()
    skipped: int = 0
    method: str = ""
    draft_s: float = 0.0
    wait_s: float = 0.0


def _chunk(chunk: slm_worker_pb2.DraftChunk, skipped: int, wait_s: float) -> Chunk:
    return Chunk(
        sequence=chunk.sequence,
        tokens=convert.drafts(chunk.tokens[skipped:]),
        skipped=skipped,
        method=convert.draft_method(chunk),
        draft_s=chunk.draft_time.ToNanoseconds() / 1e9,
        wait_s=wait_s,
    )


class Drafts(Protocol):
    """Where one answer's drafts come from.

    A round is ``next``, or nothing where none are wanted, then ``judged`` with what became of it; before the
    next that wants drafts comes ``ask``.
    """

    level: str

    @property
    def alive(self) -> bool:
        """Whether drafts may still come."""
        ...

    async def next(self) -> Chunk:
        """Return the next drafts, empty where there are none. Raises WeirError."""
        ...

    def judged(self, chunk: Chunk, verdict: Round) -> None:
        """Take what a round made of ``chunk``."""
        ...

    async def ask(self, plan: Plan) -> None:
        """Say what the next drafts should be, and all verdicts that are due."""
        ...

    async def rest(self) -> None:
        """Take note that no drafts are wanted for now."""
        ...


class DraftStream:
    """One answer's drafts. Once the drafter is gone, every chunk is empty and verdicts go nowhere.

    Args:
        tokenizer_sha256: that the drafts must be in.
        vocab_size: that their ids must be below.
        first: what the drafter is asked for at the start.
    """

    level = "token"

    def __init__(self, tokenizer_sha256: str, vocab_size: int, first: Plan) -> None:
        self._tokenizer_sha256 = tokenizer_sha256
        self._vocab_size = vocab_size
        self._stack = AsyncExitStack()
        self._call: _DraftCall | None = None
        self._standing = Standing(first.chunks_ahead)
        self._most_tokens = first.tokens
        self._open: Chunk | None = None
        self._accepted = 0
        self._own: list[int] = []

    @property
    def alive(self) -> bool:
        """Whether there is a drafter."""
        return self._call is not None

    async def open(self, stub: WorkerStub, start: slm_worker_pb2.DraftStart) -> None:
        """Ask for drafts."""
        call: _DraftCall = await self._stack.enter_async_context(bidi(stub.Draft))
        self._call = call
        await self._attempt(call.write(slm_worker_pb2.DraftRequest(start=start)))

    async def next(self) -> Chunk:
        """Return the next chunk that stands, empty where there is no drafter.

        Raises:
            WeirError: TOKENIZER_MISMATCH; DEADLINE.
        """
        began = time.perf_counter()
        while self._call is not None:
            response = await self._attempt(self._call.read())
            if response is None or not response.HasField("chunk"):
                await self._leave("drafter_finished")
                break
            require_tokenizer(response.chunk.tokenizer_sha256, self._tokenizer_sha256)
            if problem := self._problem(response.chunk):
                await self._leave(problem)
                break
            skipped = self._standing.place(response.chunk.sequence, [t.id for t in response.chunk.tokens])
            if skipped is not None:
                return _chunk(response.chunk, skipped, time.perf_counter() - began)
        return Chunk(wait_s=time.perf_counter() - began)

    def judged(self, chunk: Chunk, verdict: Round) -> None:
        """Take what a round made of ``chunk``; one without a drafter adds to the correction to come."""
        if chunk.sequence is not None:
            self._open, self._accepted, self._own = chunk, verdict.accepted, []
        if self._open is not None:
            self._own += [token.id for token in verdict.own]

    async def ask(self, plan: Plan) -> None:
        """Tell the drafter the verdict that is due, and what to draft next."""
        chunk, self._open = self._open, None
        if self._call is None or chunk is None or chunk.sequence is None:
            return
        whole = self._accepted == len(chunk.tokens)
        self._standing.judged(
            chunk.sequence, whole=whole, correction=self._own, chunks_ahead=plan.chunks_ahead
        )
        self._most_tokens = max(self._most_tokens, plan.tokens)
        ack = slm_worker_pb2.DraftAck(
            sequence=chunk.sequence,
            accepted=chunk.skipped + self._accepted,
            correction=self._own,
            next_tokens=plan.tokens,
            chunks_ahead=plan.chunks_ahead,
        )
        await self._attempt(self._call.write(slm_worker_pb2.DraftRequest(ack=ack)))

    async def rest(self) -> None:
        """Do nothing: a drafter whose verdict is held back waits."""

    async def aclose(self) -> None:
        """Cancel the call."""
        self._call = None
        await self._stack.aclose()

    def _problem(self, chunk: slm_worker_pb2.DraftChunk) -> str:
        """Name what no drafter in its right mind sends; empty where all is well."""
        if len(chunk.tokens) > self._most_tokens:
            return "drafter_oversized"
        if any(token.id >= self._vocab_size for token in chunk.tokens):
            return "drafter_out_of_vocabulary"
        if chunk.sequence <= self._standing.latest:
            return "drafter_out_of_order"
        return ""

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
    stub: WorkerStub | None,
    request_id: str,
    spec: PromptSpec,
    *,
    first: Plan,
    min_confidence: float,
    tokenizer_sha256: str,
    vocab_size: int,
) -> AsyncIterator[DraftStream]:
    """Open a stream of drafts, if the first plan has any; leaving the block cancels it."""
    stream = DraftStream(tokenizer_sha256, vocab_size, first)
    try:
        if first.tokens and stub is not None:
            start = convert.draft_start(request_id, spec, first, min_confidence)
            await stream.open(stub, start)
        yield stream
    finally:
        await stream.aclose()
