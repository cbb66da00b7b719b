"""Judging finished text: its likelihood, its constraint, and how far its sources bear it out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from weir.common.config import Settings
from weir.common.prompts import PromptSpec
from weir.engines.base import SessionEngine, TokenInfo
from weir.verifier.checking.checker import Checker
from weir.verifier.grounding import grounded
from weir.verifier.problems import malformed, too_long
from weir.verifier.scoring import score
from weir.verifier.sequence import context_of, encode_prompt

MAX_TOP_LOGPROBS = 64


@dataclass(frozen=True, slots=True)
class Assessment:
    """``violation`` is empty where the constraint is kept; ``grounded`` is ``None`` without sources."""

    violation: str
    grounded: float | None


class Assessor:
    """Scores and checks with the verifier's model."""

    def __init__(self, settings: Settings, engine: SessionEngine, checker: Checker) -> None:
        self._tier = settings.tiers.hybrid
        self._max_bytes = settings.routing.max_prompt_bytes
        self._engine = engine
        self._checker = checker

    async def score(self, spec: PromptSpec, continuation: str, top: int) -> list[TokenInfo]:
        """Score ``continuation`` after the prompt, with ``top`` candidates for each token.

        Raises:
            WeirError: INVALID_REQUEST for an empty continuation or more than 64 candidates;
                CONTEXT_TOO_LONG; QUEUE_FULL.
        """
        if top > MAX_TOP_LOGPROBS:
            raise malformed("top_logprobs", f"must be at most {MAX_TOP_LOGPROBS}")
        self._bound("continuation", [continuation])
        prompt_ids, _ = await encode_prompt(self._engine, self._tier, spec)
        continuation_ids = self._engine.codec.encode(continuation)
        if not continuation_ids:
            raise malformed("continuation", "is empty; send the text to be scored")
        whole, context = len(prompt_ids) + len(continuation_ids), context_of(self._engine, self._tier)
        if whole > context:
            raise too_long(whole, context)
        return await score(self._engine, prompt_ids, continuation_ids, top=top)

    async def check(self, spec: PromptSpec, answer: str, sources: Sequence[str]) -> Assessment:
        """Check ``answer`` against the prompt's constraint and ``sources``.

        Raises:
            WeirError: INVALID_CONSTRAINT where the constraint itself is broken or takes too long;
                INVALID_REQUEST for too much text; CONTEXT_TOO_LONG; QUEUE_FULL.
        """
        self._bound("answer", [answer])
        self._bound("sources", sources)
        violation = await self._checker.violation(spec.constraint, answer) if spec.constraint else ""
        if not any(source.strip() for source in sources):
            return Assessment(violation, None)
        return Assessment(violation, await grounded(self._engine, self._tier, spec, answer, sources))

    def _bound(self, field: str, texts: Sequence[str]) -> None:
        size = sum(len(text.encode()) for text in texts)
        if size > self._max_bytes:
            raise malformed(field, f"has {size} bytes, more than the {self._max_bytes} allowed")
