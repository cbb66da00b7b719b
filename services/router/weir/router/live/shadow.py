"""Shadow mode: a candidate judges silently beside the classifier in force."""

from __future__ import annotations

import asyncio
from functools import partial

import structlog

from weir.router.classifier.base import Assessment, Judgment, Question
from weir.router.classifier.batching import Batcher, BusyError
from weir.router.live.comparison import Agreement
from weir.router.live.sampling import drawn

log = structlog.get_logger(__name__)


class Shadow:
    """Compares a candidate with what was decided.

    ``offer`` returns at once and nobody waits for the candidate: it can neither delay nor change a decision.
    It does take processor time; a lower ``share`` takes less.

    Args:
        batcher: of the candidate.
        share: of the decisions that it judges too.
        threshold: complexity on both sides of which the two disagree.
        max_waiting: while more wait for the candidate, prompts are skipped.
    """

    def __init__(self, batcher: Batcher, share: float, threshold: float, max_waiting: int = 64) -> None:
        self.batcher = batcher
        self.agreement = Agreement(threshold)
        self.skipped = self.failed = 0
        self._share, self._max_waiting = share, max_waiting

    def offer(self, question: Question, judgment: Judgment) -> None:
        """Let the candidate judge what the classifier in force has just judged anew, if it is drawn."""
        if judgment.by in ("cache", "prior") or not drawn(question, self._share, "shadow"):
            return
        if self.batcher.waiting > self._max_waiting:
            self.skipped += 1
            return
        try:
            future = self.batcher.submit(question.text)
        except BusyError:
            self.skipped += 1
            return
        future.add_done_callback(partial(self._compare, judgment.assessment))

    def _compare(self, decided: Assessment, future: asyncio.Future[Assessment]) -> None:
        if future.cancelled():
            return
        if (error := future.exception()) is not None:
            if not self.failed:
                revision = self.batcher.classifier.revision
                log.warning("shadow_classifier_failed", revision=revision, error=type(error).__name__)
            self.failed += 1
            return
        self.agreement.add(decided, future.result())

    @property
    def detail(self) -> str:
        """What there is to tell, in words."""
        seen = self.agreement
        return (
            f"{seen.compared} compared; mean difference {seen.complexity_difference:.3f} of the complexity, "
            f"{seen.gain_difference:.3f} of the gain; {self.skipped} skipped, {self.failed} failed"
        )
