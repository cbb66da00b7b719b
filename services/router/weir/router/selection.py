"""Which of the eligible tiers answers: the cheapest that the thresholds trust. Pure.

With c the calibrated probability that the small model's answer would not do, T ``complexity_threshold`` and
F ``fallback_on_confidence_below``:

* c >= T: FRONTIER. Under an output constraint HYBRID instead, where decoding itself enforces the constraint.
* 1 - c < F, the choice of the SLM being less sure than that: HYBRID. With T = 0.72 and
  F = 0.65 that is 0.35 < c < 0.72.
* otherwise: SLM.

Then a latency budget may move the choice to the cheapest eligible tier that is expected to meet it. The
request's own budget moves any choice; the configured default only spares a HYBRID answer whose SLM answer is
more likely right than not (c < 0.5), so that a default neither raises cost nor drops hard prompts.
Where the preferred tier is not eligible, ``_SUCCESSORS`` says who comes next.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from weir.router.domain import Facts, Reason, Tier, TierState
from weir.router.eligibility import Eligibility


class Signal(Protocol):
    """What selection reads of the classifier's assessment."""

    @property
    def complexity(self) -> float: ...  # noqa: D102
    @property
    def confidence(self) -> float: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The configured bounds; ``latency_budget_s`` is the default of requests that state none."""

    complexity: float
    confidence: float
    latency_budget_s: float
    strict_schema: bool = True
    frontier_fallback: bool = True


@dataclass(frozen=True, slots=True)
class Selection:
    """The chosen tier first, then those that may take over, with the reasons in the order they decided."""

    order: tuple[Tier, ...]
    reasons: tuple[Reason, ...]
    confidence: float


# Who takes over from a tier: for an easy prompt the next dearer, for a hard one the next weaker.
_SUCCESSORS = {
    Tier.SLM: (Tier.SLM, Tier.HYBRID, Tier.FRONTIER),
    Tier.HYBRID: (Tier.HYBRID, Tier.FRONTIER, Tier.SLM),
    Tier.FRONTIER: (Tier.FRONTIER, Tier.HYBRID, Tier.SLM),
}


def select(
    facts: Facts, signal: Signal, allowed: Eligibility, states: Mapping[Tier, TierState], bounds: Thresholds
) -> Selection:
    """Choose among the eligible tiers; an empty ``order`` means that only a forbidden fallback is left."""
    pinned = _pin(facts, allowed)
    if pinned:
        return Selection(allowed.eligible, (pinned,), 1.0)
    preferred, reason = _prefer(facts, signal, bounds)
    reasons = [reason]
    order = _shrink(preferred, allowed, bounds, reasons)
    order = _hurry(order, facts, signal, states, bounds, reasons)
    return Selection(order, tuple(reasons), _confidence(order, signal))


def _pin(facts: Facts, allowed: Eligibility) -> Reason | None:
    """A request that leaves one tier is not weighed: it goes there."""
    if len(allowed.eligible) != 1:
        return None
    tier = allowed.eligible[0]
    if facts.policy.domain:
        return Reason("domain_pinned", f"the domain '{facts.policy.domain}' is served by {tier.upper()}")
    if len(facts.policy.allowed) == 1:
        return Reason("pinned", f"the policy allows {tier.upper()} alone")
    return None


def _prefer(facts: Facts, signal: Signal, bounds: Thresholds) -> tuple[Tier, Reason]:
    c, kind = signal.complexity, facts.constraint
    hard = c >= bounds.complexity
    if kind and bounds.strict_schema:
        tier = Tier.HYBRID if hard or 1 - c < bounds.confidence else Tier.SLM
        return tier, Reason(
            "schema_constrained", f"{tier.upper()} enforces the {kind} constraint while decoding"
        )
    if hard:
        return Tier.FRONTIER, Reason("high_complexity", f"complexity {c:.2f} reaches {bounds.complexity:.2f}")
    if 1 - c < bounds.confidence:
        doubt = f"confidence in the SLM's answer, {1 - c:.2f}, is below {bounds.confidence:.2f}"
        return Tier.HYBRID, Reason("low_confidence", doubt)
    return Tier.SLM, Reason("low_complexity", f"confidence in the SLM's answer is {1 - c:.2f}")


def _shrink(
    preferred: Tier, allowed: Eligibility, bounds: Thresholds, reasons: list[Reason]
) -> tuple[Tier, ...]:
    order = tuple(tier for tier in _SUCCESSORS[preferred] if tier in allowed.eligible)
    why = allowed.why_not(preferred)
    if (
        not bounds.frontier_fallback
        and preferred is not Tier.FRONTIER
        and (not why or why.code == "unavailable")
    ):
        order = tuple(tier for tier in order if tier is not Tier.FRONTIER)
    if why and order:
        code = "long_context" if why.code == "context_too_long" else "fallback_excluded"
        reasons.append(Reason(code, f"{order[0].upper()} instead of {preferred.upper()}: {why.detail}"))
    return order


def _hurry(
    order: tuple[Tier, ...],
    facts: Facts,
    signal: Signal,
    states: Mapping[Tier, TierState],
    bounds: Thresholds,
    reasons: list[Reason],
) -> tuple[Tier, ...]:
    asked = facts.policy.latency_budget_s
    budget = bounds.latency_budget_s if asked is None else asked
    if not order or _meets(states[order[0]], budget):
        return order
    if asked is None and not (order[0] is Tier.HYBRID and signal.complexity < 0.5):
        return order
    candidates = order if asked is not None else tuple(tier for tier in order if tier is Tier.SLM)
    quick = next((t for t in Tier if t in candidates and _meets(states[t], budget)), None)
    if quick is None:
        return order
    expected = (states[order[0]].first_token_s or 0) * 1000
    detail = (
        f"{order[0].upper()} starts after about {expected:.0f} ms, past the budget of {budget * 1000:.0f} ms"
    )
    reasons.append(Reason("latency_budget", f"{quick.upper()} instead: {detail}"))
    return (quick, *(tier for tier in order if tier is not quick))


def _meets(state: TierState, budget: float) -> bool:
    return state.first_token_s is None or state.first_token_s <= budget


def _confidence(order: tuple[Tier, ...], signal: Signal) -> float:
    """How sure the choice is: certain without an alternative, else what the classifier says of it."""
    if len(order) <= 1:
        return 1.0
    by_tier = {
        Tier.SLM: 1 - signal.complexity,
        Tier.FRONTIER: signal.complexity,
        Tier.HYBRID: signal.confidence,
    }
    return by_tier[order[0]]
