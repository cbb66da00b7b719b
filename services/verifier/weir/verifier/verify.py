"""Verdicts on somebody else's drafts, chunk by chunk."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

from weir.common.config.model import HybridTier
from weir.common.prompts import PromptSpec
from weir.engines.base import SessionEngine
from weir.verifier.acceptance import DraftToken, Rule
from weir.verifier.measures import RoundFacts, rounds_done
from weir.verifier.problems import malformed, too_long
from weir.verifier.rounds import Round
from weir.verifier.sequence import context_of, encode_prompt, open_verification, require_tokenizer

MAX_CHUNK_TOKENS = 256


@dataclass(frozen=True, slots=True)
class Start:
    """The beginning of a verification."""

    spec: PromptSpec
    rule: Rule
    tokenizer_sha256: str


@dataclass(frozen=True, slots=True)
class DraftedChunk:
    """Drafted tokens; an empty hash stands for the one told at the start.

    ``method`` is where they come from and ``draft_s`` the seconds that they took, as the drafter says.
    """

    sequence: int
    tokens: tuple[DraftToken, ...]
    tokenizer_sha256: str
    method: str
    draft_s: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of chunk ``sequence``."""

    sequence: int
    round: Round


async def verify(
    engine: SessionEngine, tier: HybridTier, requests: AsyncIterator[Start | DraftedChunk]
) -> AsyncGenerator[Verdict, None]:
    """Judge chunk after chunk of one answer.

    Where a chunk stands whole there is no correction, so that a drafter may run ahead; after a rejection the
    next chunk continues from what was accepted and the correction.

    Raises:
        WeirError: INVALID_REQUEST for anything out of order; TOKENIZER_MISMATCH; CONTEXT_TOO_LONG;
            QUEUE_FULL.
    """
    start = await anext(requests, None)
    if start is None:
        return
    if not isinstance(start, Start):
        raise malformed("start", "comes before the first draft")
    require_tokenizer(start.tokenizer_sha256, engine.codec.sha256)
    prompt_ids, _ = await encode_prompt(engine, tier, start.spec)
    async with AsyncExitStack() as local:
        verification = await open_verification(local, engine, tier, start.spec, start.rule)
        await verification.prefill(prompt_ids)
        order = _Order(engine, len(prompt_ids), context_of(engine, tier))
        async for request in requests:
            chunk = order.check(request)
            verdict = await verification.round(chunk.tokens, bonus=False)
            order.said(verdict, ended=verification.ended)
            rounds_done(engine.info.model, [_facts(chunk, verdict)])
            yield Verdict(chunk.sequence, verdict)


def _facts(chunk: DraftedChunk, verdict: Round) -> RoundFacts:
    return RoundFacts(
        method=chunk.method,
        drafted=len(chunk.tokens),
        accepted=verdict.accepted,
        produced=len(verdict.tokens),
        draft_s=chunk.draft_s,
        verify_s=verdict.forward_s,
    )


class _Order:
    """What may come next in the stream of one drafter."""

    def __init__(self, engine: SessionEngine, prompt_tokens: int, context: int) -> None:
        self._sha256 = engine.codec.sha256
        self._vocab_size = engine.info.vocab_size
        self._tokens = prompt_tokens
        self._context = context
        self._expected: int | None = None
        self._ended = False

    def check(self, request: Start | DraftedChunk) -> DraftedChunk:
        """Return the chunk, if it may come now."""
        if isinstance(request, Start):
            raise malformed("start", "comes once in a stream; open another stream for another prompt")
        if self._ended:
            raise malformed("draft", "comes after the answer ended in an earlier chunk; close the stream")
        if self._expected is not None and request.sequence != self._expected:
            problem = f"is {request.sequence} where {self._expected} was expected; number the chunks in order"
            raise malformed("draft.sequence", problem)
        if not 1 <= len(request.tokens) <= MAX_CHUNK_TOKENS:
            raise malformed("draft.tokens", f"must have 1 to {MAX_CHUNK_TOKENS} entries")
        if any(token.id >= self._vocab_size for token in request.tokens):
            raise malformed("draft.tokens", f"must have ids below {self._vocab_size}")
        if request.tokenizer_sha256:
            require_tokenizer(request.tokenizer_sha256, self._sha256)
        if self._tokens + len(request.tokens) > self._context:
            raise too_long(self._tokens + len(request.tokens), self._context)
        self._expected = request.sequence + 1
        return request

    def said(self, verdict: Round, *, ended: bool) -> None:
        """Take the outcome of the chunk."""
        self._tokens += len(verdict.tokens)
        self._ended = ended
