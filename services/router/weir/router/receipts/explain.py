"""A decision's story for people: what was measured, who could answer, why this one, and what became of it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec
from rich.console import Console, Group, RenderableType
from rich.table import Table

from weir.router.case import Bounds, Case
from weir.router.receipts.records import DecisionRecord, FeedbackRecord, OutcomeRecord
from weir.router.receipts.store import Story
from weir.router.selection import Selection, select


def print_story(story: Story, console: Console) -> None:
    """Print it in sections."""
    console.print(Group(*_sections(story)), soft_wrap=True)


def _sections(story: Story) -> Iterator[RenderableType]:
    decision = story.decision
    yield _facts("Decision", _identity(decision))
    yield _facts("Measured", {**_judged(decision.case), **decision.signals})
    yield _tiers(decision)
    yield _facts("Chosen", _choice(decision))
    yield _facts("In force", {name: _value(value) for name, value in decision.bounds.items()})
    yield _facts("Revisions", decision.revisions)
    yield _facts("Outcome", _outcome(story.outcome) if story.outcome else {"outcome": "none was noted"})
    for label in story.feedback:
        yield _facts("Feedback", _label(label))
    if decision.prompt is not None:
        yield _facts("Prompt", {"text": decision.prompt})


def _identity(decision: DecisionRecord) -> dict[str, str]:
    return {
        "decision": decision.decision_id,
        "request": decision.request_id,
        "tenant": decision.tenant or "none",
        "made": _time(decision.at),
        "asked for": "an answer" if decision.generated else "the decision alone",
        "content kept": "no (no_store)" if decision.no_store else "as configured",
    }


def _choice(decision: DecisionRecord) -> dict[str, str]:
    """Say why, in the words of the choice made again: it is pure, and only its codes are kept."""
    again = _choose_again(decision)
    details = {reason.code: reason.detail for reason in again.reasons} if again else {}
    same = again is not None and [tier.value for tier in again.order] == decision.order
    return {
        "tier": f"{decision.tier}, model {decision.model}",
        **{f"because {code}": details.get(code, "") for code in decision.reasons},
        "confidence": _value(decision.confidence),
        "may take over": ", ".join(decision.order[1:]) or "no other tier",
        "made again": "gives the same" if same else "gives another choice: this version chooses otherwise",
    }


def _choose_again(decision: DecisionRecord) -> Selection | None:
    try:
        case = msgspec.convert(decision.case, Case)
        return select(case, msgspec.convert(decision.bounds, Bounds))
    except msgspec.ValidationError:
        return None


def _judged(case: dict[str, Any]) -> dict[str, str]:
    skipped = {"eligible", "exclusions", "estimates"}
    return {
        name: _value(value) for name, value in case.items() if name not in skipped and value not in (None, "")
    }


def _tiers(decision: DecisionRecord) -> Table:
    table = Table("tier", "may answer", "quality", "first token s", "total s", "cost USD", title="Tiers")
    estimates = decision.case.get("estimates", {})
    for tier in decision.case.get("eligible", ()):
        estimate = estimates.get(tier, {})
        names = ("quality", "first_token_s", "total_s", "cost_usd")
        mark = "yes, chosen" if tier == decision.tier else "yes"
        table.add_row(tier, mark, *(_value(estimate.get(name)) for name in names))
    for tier, reason in decision.case.get("exclusions", {}).items():
        table.add_row(tier, f"no: {reason}", "", "", "", "")
    table.title_justify = "left"
    return table


def _outcome(outcome: OutcomeRecord) -> dict[str, str]:
    return {
        "outcome": outcome.outcome,
        "ended": _time(outcome.at),
        "answered by": outcome.answered_by or "no tier",
        "hand-overs": str(outcome.handovers),
        "tokens": str(outcome.completion_tokens),
        "first token s": _value(outcome.first_token_s),
        "total s": _value(outcome.total_s),
        "cost USD": _value(outcome.cost_usd),
        "frontier would cost USD": _value(outcome.frontier_cost_usd),
        "constraint kept": {True: "yes", False: "no", None: "not checked"}[outcome.valid],
    }


def _label(label: FeedbackRecord) -> dict[str, str]:
    said = {"acceptable": label.acceptable, "score": label.score, "comment": label.comment or None}
    return {"given": _time(label.at), **{name: _value(v) for name, v in said.items() if v is not None}}


def _facts(title: str, facts: dict[str, str]) -> Table:
    table = Table(title=title, title_justify="left", show_header=False, box=None, pad_edge=False)
    for name, value in facts.items():
        table.add_row(f"  {name}", value)
    return table


def _value(value: object) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(sep=" ", timespec="milliseconds")
