"""Where an answer's drafts come from: a worker's tokens, or its text where it has another vocabulary."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from weir.common.config.model import HybridTier
from weir.common.errors import ErrorCode, WeirError
from weir.engines.base import SessionEngine
from weir.verifier.acceptance import Lossless, Rule, Takeover, Threshold
from weir.verifier.drafts import Drafts, WorkerStub, drafting
from weir.verifier.events import Job
from weir.verifier.speculation.knowledge import Knowledge
from weir.verifier.speculation.planner import Limits, Pace
from weir.verifier.text_level.level import Level, Levels
from weir.verifier.text_level.opening import text_drafting
from weir.verifier.text_level.planning import UnitPace
from weir.verifier.upstream import Upstream


@dataclass(frozen=True, slots=True)
class Source:
    """A worker, if there is one, the level at which its drafts are judged, and the rule that holds there."""

    stub: WorkerStub | None
    level: Level
    rule: Rule


class Sources:
    """Chooses a worker for each answer and opens its drafts.

    What is learned of text, where waiting and starting again cost most, is kept apart from what is learned
    of drafted tokens.
    """

    def __init__(self, engine: SessionEngine, tier: HybridTier, workers: Upstream[WorkerStub]) -> None:
        self._engine = engine
        self._tier = tier
        self._workers = workers
        self._levels = Levels(lambda: engine.codec.sha256, tier.other_tokenizers)
        self._knowledge = {Level.TOKEN: Knowledge(tier.overlap), Level.TEXT: Knowledge("off")}

    async def choose(self, rule: Rule) -> Source:
        """Return the next worker and its level.

        Raises:
            WeirError: TOKENIZER_MISMATCH or UNSUPPORTED where its drafts are refused.
        """
        stub = self._workers.next()
        level = await self._levels.of(stub) if stub is not None else Level.TOKEN
        return Source(stub, level, _at_text_level(rule) if level is Level.TEXT else rule)

    @asynccontextmanager
    async def open(
        self, source: Source, job: Job, prompt_ids: Sequence[int], left: int, *, sampled: bool
    ) -> AsyncIterator[tuple[Drafts, Pace]]:
        """Open the drafts of an answer of ``left`` tokens and plan its rounds; leaving the block cancels."""
        tier, knowledge = self._tier, self._knowledge[source.level]
        whole_units = source.level is Level.TEXT and not isinstance(source.rule, Lossless)
        limits = Limits(tier.draft_tokens, tier.max_draft_tokens, sampled, tier.guesses)
        with knowledge.answer():
            pace = (UnitPace if whole_units else Pace)(knowledge, limits, left, prompt_ids)
            if source.level is Level.TEXT and source.stub is not None:
                async with self._text(source, source.stub, job, pace) as drafts:
                    yield drafts, pace
            else:
                async with self._tokens(source, job, pace) as drafts:
                    yield drafts, pace

    @asynccontextmanager
    async def _text(self, source: Source, stub: WorkerStub, job: Job, pace: Pace) -> AsyncIterator[Drafts]:
        async with text_drafting(
            stub,
            job.request_id,
            job.spec,
            source.rule,
            self._engine.codec,
            tokens=pace.plan.tokens,
            on_failure=lambda: self._levels.forget(stub),
        ) as drafts:
            yield drafts

    @asynccontextmanager
    async def _tokens(self, source: Source, job: Job, pace: Pace) -> AsyncIterator[Drafts]:
        fallback = source.rule.fallback_below if isinstance(source.rule, Threshold) else 0.0
        try:
            async with drafting(
                source.stub,
                job.request_id,
                job.spec,
                first=pace.plan,
                min_confidence=fallback,
                tokenizer_sha256=self._engine.codec.sha256,
                vocab_size=self._engine.info.vocab_size,
            ) as drafts:
                yield drafts
        except WeirError as error:
            if error.code is ErrorCode.TOKENIZER_MISMATCH and source.stub is not None:
                self._levels.forget(source.stub)
            raise


def _at_text_level(rule: Rule) -> Rule:
    """Leave out what needs the drafter's own probabilities or tokens."""
    if isinstance(rule, Threshold):
        return replace(rule, fallback_below=0.0, takeover=Takeover.TOKEN)
    return rule
