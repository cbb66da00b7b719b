"""Which tier is worth its price: the rule of the modes that hold a target (see ``selection``)."""

from __future__ import annotations

from collections.abc import Sequence

from weir.router.case import Bounds, Case
from weir.router.domain import Reason, Tier


def sufficient(tiers: Sequence[Tier], case: Case, bounds: Bounds) -> Tier:
    """Return the cheapest that reaches the bar, or to which no dearer one adds enough."""
    qualities, enough = [case.estimates[tier].quality for tier in tiers], _enough(bounds)
    for index, quality in enumerate(qualities[:-1]):
        reached = bounds.mode == "quality" and quality >= bounds.quality
        if reached or max(qualities[index + 1 :]) - quality < enough:
            return tiers[index]
    return tiers[-1]


def _enough(bounds: Bounds) -> float:
    """Return the gain in quality for which a dearer tier is worth it."""
    return bounds.least_gain if bounds.mode == "quality" else max(bounds.least_gain, 1 - bounds.quality)


def aim(expected: float, bounds: Bounds) -> Reason:
    """Say what made a tier with this expected quality the choice."""
    if bounds.mode != "quality":
        detail = f"no dearer tier adds {_enough(bounds):.2f} to the expected quality of {expected:.2f}"
        return Reason(f"{bounds.mode}_target", detail)
    if expected >= bounds.quality:
        return Reason("quality_target", f"expected quality {expected:.2f} reaches {bounds.quality:.2f}")
    misses = f"expected quality {expected:.2f} misses {bounds.quality:.2f}"
    return Reason("best_quality", f"{misses}, and no dearer tier adds {bounds.least_gain:.2f}")
