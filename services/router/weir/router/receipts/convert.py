"""What the router knows, turned into records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from weir.router.case import Bounds, Case
from weir.router.domain import Decision, Facts
from weir.router.receipts.records import DecisionRecord, FeedbackRecord, OutcomeRecord


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an answer ended: ``finished``, ``cancelled`` or an error code. Seconds and USD."""

    outcome: str
    answered_by: str
    completion_tokens: int = 0
    cost_usd: float = 0.0
    frontier_cost_usd: float = 0.0
    first_token_s: float | None = None
    total_s: float = 0.0
    valid: bool | None = None
    handovers: int = 0


@dataclass(frozen=True, slots=True)
class Feedback:
    """A label: whether the answer would do, how good it was, and why."""

    acceptable: bool | None
    score: float | None
    comment: str = ""


def decision_record(
    decision: Decision,
    facts: Facts,
    *,
    request_id: str,
    tenant: str,
    at: float,
    prompt: str | None,
    generated: bool,
) -> DecisionRecord:
    """Return the record of a decision made at ``at`` (Unix seconds)."""
    return DecisionRecord(
        decision_id=decision.decision_id,
        request_id=request_id,
        tenant=tenant,
        at=at,
        tier=decision.tier.value,
        model=decision.model,
        order=[tier.value for tier in decision.order],
        case=_plain(decision.case),
        bounds=_plain(decision.bounds),
        signals={"role": decision.judgment.role, **dict(decision.signals)},
        reasons=[reason.code for reason in decision.reasons],
        revisions=dict(decision.revisions),
        confidence=decision.confidence,
        prompt_tokens=facts.prompt_tokens,
        no_store=facts.policy.no_store,
        generated=generated,
        prompt=prompt,
    )


def _plain(part: Case | Bounds) -> dict[str, Any]:
    """Return it as it will be read: JSON knows lists and no tuples."""
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(part))
    return plain


def outcome_record(decision_id: str, outcome: Outcome, *, at: float) -> OutcomeRecord:
    """Return the record of an answer that ended at ``at``."""
    return OutcomeRecord(
        decision_id=decision_id,
        at=at,
        outcome=outcome.outcome,
        answered_by=outcome.answered_by,
        completion_tokens=outcome.completion_tokens,
        cost_usd=outcome.cost_usd,
        frontier_cost_usd=outcome.frontier_cost_usd,
        first_token_s=outcome.first_token_s,
        total_s=outcome.total_s,
        valid=outcome.valid,
        handovers=outcome.handovers,
    )


def feedback_record(decision: DecisionRecord, feedback: Feedback, *, at: float) -> FeedbackRecord:
    """Return the record of a label; its comment is content, which ``no_store`` forbids to keep."""
    comment = "" if decision.no_store else feedback.comment
    return FeedbackRecord(decision.decision_id, at, feedback.acceptable, feedback.score, comment)
