"""Which of the eligible tiers answers. Pure over ``Case`` and ``Bounds``, and total.

Nothing is chosen outside of ``case.eligible``. A request that its policy leaves one tier goes there. Else a
tier is preferred: the one that a rule prefers, where it is eligible, or by the mode. With c the calibrated
probability that the small model's answer would not do:

*Mode ``thresholds``*, with T ``bounds.complexity`` and F ``bounds.confidence``:

* c >= T: FRONTIER. Under an output constraint HYBRID instead, where decoding itself enforces the constraint.
* 1 - c < F, the choice of the SLM being less sure than that: HYBRID, or the SLM where it has an adapter for
  the prompt's domain: an adapted model goes before a general one of the same installation. A hard prompt
  still goes to FRONTIER, since an adapter teaches a subject and no reasoning. With T = 0.72 and F = 0.65:
  0.35 < c < 0.72.
* otherwise: SLM.

*Mode ``quality``*: the cheapest tier whose expected quality reaches ``bounds.quality``, or to which no dearer
one adds ``least_gain``: so where none reaches the bar the best one, unless it adds less than that.

*Modes ``cost`` and ``latency``*: the cheapest tier to which no dearer one adds 1 - ``bounds.quality``, and
``least_gain`` at least. The controller moves ``bounds.quality`` to where the cost or latency is held, so that
dear answers are bought where they gain most. A bar of quality would buy them where the SLM is weakest, which
is often where every model is: among a tenth of the validation prompts the one finds five times the gain.

Raising ``bounds.quality`` never picks a cheaper tier, and an adapted SLM goes before HYBRID in these modes
too.

*Latency.* The budget that the request or its tenant states moves any choice to the cheapest tier expected to
meet it; an unmeasured tier counts as meeting it. Where none does the choice stays in mode ``thresholds`` and
is the quickest local tier in the others. A stated budget no longer than the configured one is critical: it
is answered locally, whatever else, as long as a local tier is eligible. The configured budget by itself only
spares, in mode ``thresholds``, a HYBRID answer whose SLM answer is more likely right than not (c < 0.5), so
that a default neither raises cost nor drops hard prompts.

Where the preferred tier is not eligible, ``_SUCCESSORS`` says who comes next in mode ``thresholds``, the same
rule over those that are left in the others; without ``frontier_fallback`` FRONTIER never stands in for a
tier that is down, even where nothing else is left (an empty order).
"""

from __future__ import annotations

from dataclasses import dataclass

from weir.router.case import Bounds, Case
from weir.router.domain import Reason, Tier
from weir.router.policy.latency import critical, meets, quicker, timely
from weir.router.policy.worth import aim, sufficient

# Who takes over from a tier: for an easy prompt the next dearer, for a hard one the next weaker.
_SUCCESSORS = {
    Tier.SLM: (Tier.SLM, Tier.HYBRID, Tier.FRONTIER),
    Tier.HYBRID: (Tier.HYBRID, Tier.FRONTIER, Tier.SLM),
    Tier.FRONTIER: (Tier.FRONTIER, Tier.HYBRID, Tier.SLM),
}
_RANKS = {tier: rank for rank, tier in enumerate(Tier)}
DOWN = "unavailable"
Order = tuple[Tier, ...]


@dataclass(frozen=True, slots=True)
class Selection:
    """The chosen tier first, then those that may take over, with the reasons in the order they decided.

    ``confidence`` is the probability that the choice is the right one, 0 to 1.
    """

    order: tuple[Tier, ...]
    reasons: tuple[Reason, ...]
    confidence: float


def select(case: Case, bounds: Bounds) -> Selection:
    """Choose among the eligible tiers; an empty ``order`` means that only a forbidden fallback is left."""
    if case.pinned:
        detail = f"the request's policy leaves {' and '.join(tier.upper() for tier in case.eligible)} alone"
        return Selection(case.eligible, (Reason(case.pinned, detail),), 1.0)
    reasons: list[Reason] = []
    if case.prefer in case.eligible:
        order = _rule(case, bounds, reasons)
    elif bounds.mode == "thresholds":
        order = _thresholds(case, bounds, reasons)
    else:
        order = _target(case, bounds, reasons)
    order = _hurry(order, case, bounds, reasons)
    return Selection(order, tuple(reasons), _confidence(order, case.complexity))


def _rule(case: Case, bounds: Bounds, reasons: list[Reason]) -> Order:
    preferred = case.prefer or Tier.SLM
    reasons.append(Reason("rule_preferred", f"a rule prefers {preferred.upper()}"))
    return _successors(preferred, _allowed(preferred, case, bounds))


def _thresholds(case: Case, bounds: Bounds, reasons: list[Reason]) -> Order:
    preferred = _prefer(case, bounds, reasons)
    order = _successors(preferred, _allowed(preferred, case, bounds))
    _tell_shift(preferred, order, case, reasons)
    return order


def _prefer(case: Case, bounds: Bounds, reasons: list[Reason]) -> Tier:
    c, kind = case.complexity, case.constraint
    hard, doubtful = c >= bounds.complexity, 1 - c < bounds.confidence
    if kind and bounds.strict_schema:
        tier = Tier.HYBRID if hard or doubtful else Tier.SLM
        detail = f"{tier.upper()} enforces the {kind} constraint while decoding"
        reasons.append(Reason("schema_constrained", detail))
        return tier if hard else _adapted(tier, case, reasons)
    if hard:
        reasons.append(Reason("high_complexity", f"complexity {c:.2f} reaches {bounds.complexity:.2f}"))
        return Tier.FRONTIER
    if doubtful:
        doubt = f"confidence in the SLM's answer, {1 - c:.2f}, is below {bounds.confidence:.2f}"
        reasons.append(Reason("low_confidence", doubt))
        return _adapted(Tier.HYBRID, case, reasons)
    reasons.append(Reason("low_complexity", f"confidence in the SLM's answer is {1 - c:.2f}"))
    return Tier.SLM


def _target(case: Case, bounds: Bounds, reasons: list[Reason]) -> Order:
    """Choose as if everything were up, then among what is: only the first tells whether a fallback is one."""
    if not case.eligible:
        return ()
    down = [tier for tier, code in case.exclusions.items() if code == DOWN and tier in case.estimates]
    ideal = sufficient(sorted([*case.eligible, *down], key=_RANKS.__getitem__), case, bounds)
    allowed = _allowed(ideal, case, bounds)
    if not allowed:
        return ()
    chosen = sufficient(timely(allowed, case, bounds), case, bounds)
    reasons.append(aim(case.estimates[chosen].quality, bounds))
    order = _successors(_adapted(chosen, case, reasons), allowed)
    if ideal not in case.eligible:
        _tell_shift(ideal, order, case, reasons)
    return order


def _adapted(tier: Tier, case: Case, reasons: list[Reason]) -> Tier:
    """An adapter for the prompt's domain goes before a general model of the same installation."""
    if tier is not Tier.HYBRID or not case.adapted or Tier.SLM not in case.eligible:
        return tier
    budget = case.latency_budget_s
    if budget is not None and not meets(case, Tier.SLM, budget):
        return tier
    reasons.append(Reason("domain_adapter", "the SLM has an adapter for the prompt's domain"))
    return Tier.SLM


def _allowed(preferred: Tier, case: Case, bounds: Bounds) -> Order:
    """Return the eligible tiers without a frontier that would only take over for a tier that is down."""
    stands_in = preferred in case.eligible or case.exclusions.get(preferred) in (None, DOWN)
    if bounds.frontier_fallback or preferred is Tier.FRONTIER or not stands_in:
        return case.eligible
    return tuple(tier for tier in case.eligible if tier is not Tier.FRONTIER)


def _successors(preferred: Tier, allowed: Order) -> Order:
    return tuple(tier for tier in _SUCCESSORS[preferred] if tier in allowed)


def _tell_shift(preferred: Tier, order: Order, case: Case, reasons: list[Reason]) -> None:
    why = case.exclusions.get(preferred)
    if preferred not in case.eligible and why and order:
        code = "long_context" if why == "context_too_long" else "fallback_excluded"
        detail = f"{order[0].upper()} instead of {preferred.upper()}, which is excluded ({why})"
        reasons.append(Reason(code, detail))


def _hurry(order: Order, case: Case, bounds: Bounds, reasons: list[Reason]) -> Order:
    if not order:
        return order
    quick = quicker(order, case, bounds)
    if quick is order[0]:
        return order
    asked = case.latency_budget_s
    budget = bounds.latency_budget_s if asked is None else asked
    expected = (case.estimates[order[0]].first_token_s or 0) * 1000
    detail = f"{order[0].upper()} starts after about {expected:.0f} ms, the budget is {budget * 1000:.0f} ms"
    code = "latency_critical" if critical(case, bounds) else "latency_budget"
    reasons.append(Reason(code, f"{quick.upper()} instead: {detail}"))
    return (quick, *(tier for tier in order if tier is not quick))


def _confidence(order: Order, complexity: float) -> float:
    """How sure the choice is: certain without an alternative, else what the classifier says of it."""
    if len(order) <= 1:
        return 1.0
    if order[0] is Tier.SLM:
        return 1 - complexity
    return complexity if order[0] is Tier.FRONTIER else max(complexity, 1 - complexity)
