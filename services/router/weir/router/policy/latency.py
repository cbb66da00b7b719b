"""Who answers in time (see ``selection``)."""

from __future__ import annotations

from collections.abc import Sequence

from weir.router.case import Bounds, Case
from weir.router.domain import Tier


def timely(tiers: tuple[Tier, ...], case: Case, bounds: Bounds) -> tuple[Tier, ...]:
    """Return those that meet the stated budget, else the quickest local one; all where none is stated."""
    budget = case.latency_budget_s
    if budget is None:
        return tiers
    local = tuple(tier for tier in tiers if tier is not Tier.FRONTIER)
    among = local if local and critical(case, bounds) else tiers
    return tuple(tier for tier in among if meets(case, tier, budget)) or (_quickest(local or tiers, case),)


def quicker(order: tuple[Tier, ...], case: Case, bounds: Bounds) -> Tier:
    """Return who answers in time, the present choice where it does or nobody would."""
    chosen, asked = order[0], case.latency_budget_s
    local: list[Tier] = [tier for tier in Tier if tier in order and tier is not Tier.FRONTIER]
    if asked is not None and local and critical(case, bounds):
        among = [chosen, *local] if chosen in local else local
        return next((tier for tier in among if meets(case, tier, asked)), _quickest(local, case))
    if asked is not None:
        among = [chosen, *(tier for tier in Tier if tier in order)]
        return next((tier for tier in among if meets(case, tier, asked)), chosen)
    spared = bounds.mode == "thresholds" and chosen is Tier.HYBRID and case.complexity < 0.5
    budget = bounds.latency_budget_s
    if spared and case.prefer is not chosen and Tier.SLM in order and not meets(case, chosen, budget):
        return Tier.SLM if meets(case, Tier.SLM, budget) else chosen
    return chosen


def critical(case: Case, bounds: Bounds) -> bool:
    """Whether the stated budget is no longer than the configured one."""
    return case.latency_budget_s is not None and case.latency_budget_s <= bounds.latency_budget_s


def meets(case: Case, tier: Tier, budget: float) -> bool:
    """Whether the tier is expected to start within the budget; an unmeasured one counts as if."""
    expected = case.estimates[tier].first_token_s
    return expected is None or expected <= budget


def _quickest(tiers: Sequence[Tier], case: Case) -> Tier:
    return min(tiers, key=lambda tier: case.estimates[tier].first_token_s or 0.0)
