"""The complexity threshold that follows a measured metric: small bounded steps with hysteresis."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from weir.common.config.model import Alerting, DynamicAdjustment
from weir.router.domain import Tier
from weir.router.statistics import Statistics

STEP = 0.02
# How far the threshold may move from the configured one.
REACH = 0.1
# Within this share around the target nothing moves.
DEAD_BAND = 0.1
# Fewer answers than this in the window say nothing.
FEWEST_SAMPLES = 20
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Reading:
    """The metric, its target, and whether sending less to the frontier would lower it."""

    metric: float
    target: float
    frontier_is_costlier: bool


def step(threshold: float, base: float, reading: Reading) -> float:
    """Move the threshold by at most one step.

    Past the target by more than the dead band it moves to the side that relieves; below it by more than the
    dead band it moves back toward ``base``; in between it stays. It never leaves base ± ``REACH`` or [0, 1].
    """
    if reading.metric > reading.target * (1 + DEAD_BAND):
        moved = threshold + (STEP if reading.frontier_is_costlier else -STEP)
    elif reading.metric < reading.target * (1 - DEAD_BAND):
        moved = threshold + max(-STEP, min(STEP, base - threshold))
    else:
        return threshold
    low, high = max(0.0, base - REACH), min(1.0, base + REACH)
    return min(max(moved, low), high)


class ThresholdController:
    """Holds the threshold in force; stays at the configured one unless dynamic adjustment is enabled.

    For ``p95_latency`` the metric is the time to the first token and its target, unless configured, the alert
    threshold. A window has to fill anew after each step, so that a step's effect is seen before the next.
    """

    def __init__(
        self,
        base: float,
        settings: DynamicAdjustment,
        alerting: Alerting,
        statistics: Statistics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.threshold = base
        self._base = base
        self._settings = settings
        self._alerting = alerting
        self._statistics = statistics
        self._clock = clock
        self._moved_at = clock()

    def update(self) -> None:
        """Take a step if one is due. Cheap to call after every answer."""
        if not self._settings.enabled or self._clock() - self._moved_at < self._settings.window_seconds:
            return
        self._moved_at = self._clock()
        reading = self._read()
        if reading is None:
            return
        moved = step(self.threshold, self._base, reading)
        if moved != self.threshold:
            log.info(
                "threshold_moved",
                metric=self._settings.metric,
                value=reading.metric,
                before=self.threshold,
                now=moved,
            )
            self.threshold = moved

    def _read(self) -> Reading | None:
        target = self._settings.target
        if self._settings.metric == "cost_per_query":
            cost = self._statistics.costs.mean()
            if cost is None or target is None or len(self._statistics.costs.samples()) < FEWEST_SAMPLES:
                return None
            return Reading(cost, target, frontier_is_costlier=True)
        p95 = self._statistics.first_tokens.percentile(0.95)
        if p95 is None or len(self._statistics.first_tokens.samples()) < FEWEST_SAMPLES:
            return None
        tiers = self._statistics.tiers
        frontier = tiers[Tier.FRONTIER].first_tokens.percentile(0.95)
        hybrid = tiers[Tier.HYBRID].first_tokens.percentile(0.95)
        slower = frontier is not None and frontier >= (hybrid or 0.0)
        bound = target if target is not None else self._alerting.latency_p95_threshold_ms / 1000
        return Reading(p95, bound, frontier_is_costlier=slower)
