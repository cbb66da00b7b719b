"""What latency, cost and quality would be under given bounds: the recent requests chosen for again."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from weir.router.case import Bounds, Case
from weir.router.control.sketch import Sketch
from weir.router.control.summary import Measured, Summary
from weir.router.domain import Tier

# Which tier answers a request under given bounds; None where none may.
Choose = Callable[[Case, Bounds], Tier | None]
# How many attempts what was known of a tier before weighs as.
PRIOR_ATTEMPTS = 2.0
# Share of slow answers of a tier of which nothing is known yet.
UNKNOWN_SLOW = 0.05
# Estimates within this share of what is measured now are left as they were.
SAME_TIME = 0.2


@dataclass(frozen=True, slots=True)
class Forecast:
    """The mix of tiers under some bounds, and what follows from it.

    Attributes:
        cases: how many requests it was drawn from.
        shares: of each tier.
        quality: mean expected quality.
        cost_usd, cost_error: mean cost of a request and its standard error.
        tiers: what was measured of each tier.
        slow_before: share of slow answers known of each tier before its present samples.
    """

    cases: int
    shares: Mapping[Tier, float]
    quality: float
    cost_usd: float
    cost_error: float
    tiers: Mapping[Tier, Measured]
    slow_before: Mapping[Tier, float] = field(default_factory=dict)

    def slow(self, seconds: float) -> tuple[float, float]:
        """Return the share of answers that take longer, and its standard error.

        The tiers' shares are weighted by how the tiers fare (post-stratification), so that the number
        holds at once for bounds that nothing was answered under yet. The variance is that of both samples.
        """
        if not self.cases:
            return 0.0, 0.0
        mean = variance = squares = 0.0
        for tier, share in self.shares.items():
            part, attempts = self._slow_of(tier, seconds)
            mean += share * part
            squares += share * part * part
            variance += share * share * part * (1 - part) / attempts
        return mean, math.sqrt(variance + max(0.0, squares - mean * mean) / self.cases)

    def quantile(self, share: float) -> float | None:
        """Return the time to the first token within which ``share`` of the answers come."""
        mix = Sketch()
        for tier, part in self.shares.items():
            mix.merge(self.tiers[tier].sketch.scaled(part))
        return mix.quantile(share)

    def _slow_of(self, tier: Tier, seconds: float) -> tuple[float, float]:
        measured = self.tiers[tier]
        known, attempts = self.slow_before.get(tier, UNKNOWN_SLOW), measured.effective
        slow = measured.sketch.above(seconds) / measured.weight if measured.weight else 0.0
        total = attempts + PRIOR_ATTEMPTS
        return min(1.0, (slow * attempts + known * PRIOR_ATTEMPTS) / total), total


class Forecaster:
    """Forecasts from one summary. Pure: same summary and bounds, same forecast.

    Args:
        summary: the window.
        choose: the choice itself.
        slow_before: see ``Forecast``.
    """

    def __init__(self, summary: Summary, choose: Choose, slow_before: Mapping[Tier, float]) -> None:
        self.tiers = summary.tiers
        self._choose = choose
        self._slow_before = slow_before
        self._cases = _at_present(summary.cases, summary.tiers)
        self._known: dict[Bounds, Forecast] = {}

    def __call__(self, bounds: Bounds) -> Forecast:
        """Return what these bounds would do."""
        found = self._known.get(bounds)
        if found is None:
            found = self._known[bounds] = self._forecast(bounds)
        return found

    def _forecast(self, bounds: Bounds) -> Forecast:
        counts = dict.fromkeys(Tier, 0)
        quality = cost = squares = 0.0
        for case in self._cases:
            tier = self._choose(case, bounds)
            if tier is None:
                continue
            counts[tier] += 1
            quality += expected_quality(case, tier)
            usd = self._cost(case, tier)
            cost += usd
            squares += usd * usd
        total = sum(counts.values())
        if not total:
            return Forecast(0, dict.fromkeys(Tier, 0.0), 0.0, 0.0, 0.0, self.tiers)
        mean = cost / total
        return Forecast(
            cases=total,
            shares={tier: count / total for tier, count in counts.items()},
            quality=quality / total,
            cost_usd=mean,
            cost_error=math.sqrt(max(0.0, squares / total - mean * mean) / total),
            tiers=self.tiers,
            slow_before=self._slow_before,
        )

    def _cost(self, case: Case, tier: Tier) -> float:
        """Return the estimate, corrected by how the tier's bills compare with its estimates."""
        measured = self.tiers[tier]
        estimate = case.estimates.get(tier)
        if measured.estimated > 0 and estimate is not None:
            return estimate.cost_usd * measured.cost / measured.estimated
        spent = measured.mean_cost
        return spent if spent is not None else (estimate.cost_usd if estimate else 0.0)


def expected_quality(case: Case, tier: Tier) -> float:
    """Return the probability of a right answer, from the classifier alone where nothing is estimated."""
    estimate = case.estimates.get(tier)
    if estimate is not None:
        return estimate.quality
    fit = 1 - case.complexity
    return fit if tier is Tier.SLM else min(1.0, fit + case.gain)


def _at_present(cases: Sequence[Case], tiers: Mapping[Tier, Measured]) -> list[Case]:
    """Return the cases as they would be seen now: a tier that slowed down since is slow for all of them."""
    now = {tier: measured.sketch.mean() for tier, measured in tiers.items()}
    return [_refreshed(case, now) for case in cases]


def _refreshed(case: Case, now: Mapping[Tier, float | None]) -> Case:
    changed = {}
    for tier, estimate in case.estimates.items():
        seconds, before = now[tier], estimate.first_token_s
        if seconds is not None and (before is None or abs(seconds - before) > SAME_TIME * before):
            changed[tier] = replace(estimate, first_token_s=seconds)
    return replace(case, estimates={**case.estimates, **changed}) if changed else case
