"""What tenants, rules and personal data allow at most, and how that narrows a request."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from weir.router.domain import ALL_TIERS, Facts, Reason, Residency, Tier

_WIDTHS = {Residency.LOCAL_ONLY: 0, Residency.REDACTED: 1, Residency.ANY: 2}


@dataclass(frozen=True, slots=True)
class Limit:
    """The most that ``source`` (for people) allows; ``code`` names it to machines.

    ``bars`` are the tiers that it takes away, with why.
    """

    source: str
    code: str
    allowed: frozenset[Tier] = ALL_TIERS
    residency: Residency = Residency.ANY
    max_cost_usd: float | None = None
    latency_budget_s: float | None = None
    bars: tuple[tuple[Tier, Reason], ...] = field(init=False)

    def __post_init__(self) -> None:
        found = ((tier, self._why_not(tier)) for tier in Tier)
        object.__setattr__(self, "bars", tuple((tier, reason) for tier, reason in found if reason))

    def _why_not(self, tier: Tier) -> Reason | None:
        if tier not in self.allowed:
            return Reason(self.code, f"{self.source} leaves it out")
        if tier is Tier.FRONTIER and self.residency is Residency.LOCAL_ONLY:
            return Reason("residency", f"{self.source} keeps the content in this installation")
        return None


def narrower(one: Residency, other: Residency) -> Residency:
    """Return the one that lets content travel less far."""
    return one if _WIDTHS[one] <= _WIDTHS[other] else other


def narrow(facts: Facts, limits: Iterable[Limit]) -> Facts:
    """Apply limits: each can only take away, and of two reasons against a tier the first stands."""
    policy, barred = facts.policy, dict(facts.barred)
    residency, cost, budget = policy.residency, policy.max_cost_usd, policy.latency_budget_s
    for limit in limits:
        residency = narrower(residency, limit.residency)
        cost = _smaller(cost, limit.max_cost_usd)
        budget = _smaller(budget, limit.latency_budget_s)
        for tier, reason in limit.bars:
            barred.setdefault(tier, reason)
    policy = replace(policy, residency=residency, max_cost_usd=cost, latency_budget_s=budget)
    return replace(facts, policy=policy, barred=barred)


def _smaller(one: float | None, other: float | None) -> float | None:
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)
