"""Which tiers fail or hand over so often that traffic should leave them."""

from __future__ import annotations

import math
from collections.abc import Mapping

from weir.router.control.summary import Measured
from weir.router.domain import Tier

# Standard errors by which a rate must be past its bound, and by which it must be below it again.
SURE_BAD, SURE_GOOD = 2.6, 1.0


def avoided(
    before: frozenset[Tier], tiers: Mapping[Tier, Measured], max_errors: float, max_escalations: float
) -> frozenset[Tier]:
    """Return the tiers to avoid; one stays so until its rates are below both bounds again."""
    found = set()
    for tier, measured in tiers.items():
        rates = ((measured.error_rate, max_errors), (measured.escalation_rate, max_escalations))
        attempts = measured.effective
        bad = any(wilson(rate, attempts, -SURE_BAD) > bound for rate, bound in rates)
        good = all(wilson(rate, attempts, SURE_GOOD) <= bound for rate, bound in rates)
        if bad or (tier in before and not good):
            found.add(tier)
    return frozenset(found)


def wilson(rate: float, attempts: float, errors: float) -> float:
    """Return the end of the rate's score interval, ``errors`` standard errors off (Wilson 1927)."""
    if not attempts:
        return 0.0 if errors < 0 else 1.0
    squared = errors * errors / attempts
    spread = math.sqrt(rate * (1 - rate) / attempts + squared / (4 * attempts))
    return (rate + squared / 2 + errors * spread) / (1 + squared)
