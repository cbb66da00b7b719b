"""What the configuration asks of the controller."""

from __future__ import annotations

import math
from dataclasses import dataclass

from weir.common.config import Settings
from weir.common.config.routing import RoutingTarget
from weir.router.case import Bounds, Mode
from weir.router.control.metric import CostPerQuery, Metric, P95Latency
from weir.router.control.trim import LARGEST, Range


@dataclass(frozen=True, slots=True)
class Law:
    """The constants of the control law.

    Attributes:
        home: the configured bounds.
        metric: what is held.
        active: whether anything moves.
        level: whether the quality bar is what moves, as high as the metric allows.
        quality_floor: ``None`` for a little below the quality at ``home``; 0 where nothing holds it up.
    """

    home: Bounds
    metric: Metric
    active: bool = True
    level: bool = False
    reach: float = 0.25
    window_s: float = 300.0
    dwell_s: float = 75.0
    quality_floor: float | None = None
    max_error_rate: float = 0.2
    max_escalation_rate: float = 0.5

    @property
    def trim_range(self) -> Range:
        """A bound is only ever tightened; a level is corrected both ways."""
        both = self.level and isinstance(self.metric, CostPerQuery)
        return Range(low=-LARGEST if both else 0.0)

    @property
    def period_s(self) -> float:
        """How often the law is applied."""
        return min(5.0, self.window_s / 60, self.dwell_s / 5)


def home_bounds(settings: Settings) -> Bounds:
    """Return what is configured."""
    routing, target = settings.routing, settings.routing.target
    plain = Bounds()
    return Bounds(
        complexity=routing.complexity_threshold,
        confidence=routing.fallback_on_confidence_below,
        least_gain=routing.least_gain,
        latency_budget_s=routing.latency_budget_ms / 1000,
        strict_schema=settings.tiers.slm.output_schema_strict,
        frontier_fallback=settings.tiers.frontier.fallback_enabled,
        mode=_mode(target),
        quality=plain.quality if target is None or target.quality is None else target.quality,
    )


def _mode(target: RoutingTarget | None) -> Mode:
    if target is None:
        return "thresholds"
    if target.quality is not None:
        return "quality"
    return "cost" if target.cost is not None else "latency"


def law(settings: Settings) -> Law:
    """Return the law that the configuration describes.

    A cost or latency target is held whether or not ``dynamic_adjustment`` is enabled: moving the bar is what
    it means. A quality target is the bar itself, and nothing moves it.
    """
    dynamic, home = settings.routing.dynamic_adjustment, home_bounds(settings)
    level = home.mode in ("cost", "latency")
    floor = dynamic.quality_floor
    return Law(
        home=home,
        metric=_metric(settings, level=level),
        active=level or (dynamic.enabled and home.mode == "thresholds"),
        level=level,
        reach=dynamic.reach,
        window_s=dynamic.window_seconds,
        dwell_s=dynamic.window_seconds / 4 if dynamic.dwell_seconds is None else dynamic.dwell_seconds,
        quality_floor=0.0 if level and floor is None else floor,
        max_error_rate=dynamic.max_error_rate,
        max_escalation_rate=dynamic.max_escalation_rate,
    )


def _metric(settings: Settings, *, level: bool) -> Metric:
    dynamic, target = settings.routing.dynamic_adjustment, settings.routing.target
    if level and target is not None:
        if target.cost is not None:
            return CostPerQuery(target.cost, dynamic.dead_band, level=True)
        return P95Latency((target.latency or 0.0) / 1000, dynamic.dead_band)
    if dynamic.metric == "cost_per_query":
        return CostPerQuery(math.inf if dynamic.target is None else dynamic.target, dynamic.dead_band)
    alert = settings.observability.alerting.latency_p95_threshold_ms / 1000
    return P95Latency(alert if dynamic.target is None else dynamic.target, dynamic.dead_band)
