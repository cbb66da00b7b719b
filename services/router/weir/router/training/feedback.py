"""Labels from ``SendFeedback``: exported receipts, joined to say which model's answer did."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from weir.router.domain import Tier
from weir.router.receipts.records import DecisionRecord, FeedbackRecord, OutcomeRecord, Receipt, Record
from weir.router.training.labels import LabeledRow, LabelError, check

SOURCE = "feedback"
_PASSING = 0.5


def is_receipt(found: Mapping[str, Any]) -> bool:
    """Whether a line is a receipt as ``weir receipts export`` writes it."""
    return "record" in found


def record_of(found: Mapping[str, Any]) -> Record:
    """Return the receipt's record. Raises LabelError."""
    try:
        return msgspec.convert(found, Receipt).record
    except msgspec.ValidationError as error:
        raise LabelError(f"{error}; wanted: a receipt as `weir receipts export` writes it") from None


class Join:
    """Collects records in any order and says what each decision's feedback teaches.

    A verdict on an answer of the SLM tier alone is the weak model's outcome, one of the FRONTIER tier alone
    the strong model's. An answer of the HYBRID tier, or one that changed hands on the way, is the work of
    both and teaches neither. Of several verdicts on one answer the last one counts.
    """

    def __init__(self) -> None:
        self._decisions: dict[str, DecisionRecord] = {}
        self._outcomes: dict[str, OutcomeRecord] = {}
        self._feedback: dict[str, FeedbackRecord] = {}

    def add(self, record: Record) -> None:
        """Take one record."""
        match record:
            case DecisionRecord():
                self._decisions[record.decision_id] = record
            case OutcomeRecord():
                self._outcomes[record.decision_id] = record
            case FeedbackRecord():
                known = self._feedback.get(record.decision_id)
                if known is None or record.at >= known.at:
                    self._feedback[record.decision_id] = record

    def rows(self, passed_over: Counter[str]) -> Iterator[LabeledRow]:
        """Yield one row for each verdict that can be used; the others are counted by reason."""
        for identifier, verdict in self._feedback.items():
            decision, outcome = self._decisions.get(identifier), self._outcomes.get(identifier)
            acceptable = _acceptable(verdict)
            if acceptable is None:
                passed_over["feedback without a verdict"] += 1
            elif decision is None or not decision.prompt or not decision.prompt.strip():
                passed_over["feedback on a decision whose prompt was not kept"] += 1
            elif (tier := _answered_by(decision, outcome)) is None:
                passed_over["feedback on an answer of more than one model"] += 1
            else:
                yield _row(decision, decision.prompt, acceptable, tier)


def _acceptable(verdict: FeedbackRecord) -> bool | None:
    if verdict.acceptable is not None or verdict.score is None:
        return verdict.acceptable
    return verdict.score >= _PASSING


def _answered_by(decision: DecisionRecord, outcome: OutcomeRecord | None) -> Tier | None:
    if outcome is not None and outcome.handovers:
        return None
    name = (outcome.answered_by if outcome else "") or decision.tier
    return next((tier for tier in (Tier.SLM, Tier.FRONTIER) if tier == name), None)


def _row(decision: DecisionRecord, prompt: str, acceptable: bool, tier: Tier) -> LabeledRow:
    weak, strong = (acceptable, None) if tier is Tier.SLM else (None, acceptable)
    row = LabeledRow(prompt, weak, strong, decision.signals.get("domain", "unknown"), SOURCE)
    check(row)
    return row


def rows_of(records: Iterable[Record], passed_over: Counter[str]) -> list[LabeledRow]:
    """Join ``records``; see ``Join``."""
    join = Join()
    for record in records:
        join.add(record)
    return list(join.rows(passed_over))
