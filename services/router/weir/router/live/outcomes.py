"""What became of decisions, told to the classifier that made them: that is what a canary is judged by."""

from __future__ import annotations

from typing import Protocol

from weir.router.classifier.base import Role
from weir.router.domain import Decision
from weir.router.progress import Progress
from weir.router.receipts.convert import Feedback
from weir.router.receipts.records import DecisionRecord


class Observer(Protocol):
    """Who wants to know; see ``classifier.judge.LiveJudge.observe_outcome``."""

    def observe_outcome(self, role: Role, revision: str, *, good: bool, tenant: str = "") -> None: ...  # noqa: D102


class Outcomes:
    """Turns ends of answers and feedback into good or bad outcomes.

    An answer is good that finished, kept its constraint and was not handed over. One that its caller
    cancelled says nothing. Feedback is an outcome of its own, since few callers send any.
    """

    def __init__(self, judge: Observer) -> None:
        self._judge = judge

    def answered(self, decision: Decision, how: str, progress: Progress, tenant: str) -> None:
        """Tell how an answer ended: ``finished``, ``cancelled`` or an error's code."""
        if how == "cancelled":
            return
        good = how == "finished" and progress.valid is not False and not progress.handovers
        judgment = decision.judgment
        self._judge.observe_outcome(judgment.role, judgment.revision, good=good, tenant=tenant)

    def labeled(self, decision: DecisionRecord, feedback: Feedback) -> None:
        """Tell what a caller found of an answer; a score alone is on a scale that nobody knows."""
        if feedback.acceptable is None:
            return
        role: Role = "canary" if decision.signals.get("role") == "canary" else "present"
        self._judge.observe_outcome(
            role, decision.revisions["classifier"], good=feedback.acceptable, tenant=decision.tenant
        )
