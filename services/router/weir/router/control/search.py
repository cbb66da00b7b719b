"""The smallest move that brings the metric into the band."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from weir.router.case import Bounds
from weir.router.control.forecast import Forecast

STEPS = 10
HALVINGS = 4
# Bars tried in the modes that hold a level.
BARS = 40
# Qualities closer than this are the same.
SAME_QUALITY = 0.002


@dataclass(frozen=True, slots=True)
class Judged:
    """Bounds with what they would do: ``shortfall`` is of quality, ``excess`` past the target."""

    bounds: Bounds
    forecast: Forecast
    shortfall: float
    excess: float
    distance: float

    @property
    def holds(self) -> bool:
        """Whether everything asked for is met."""
        return self.shortfall <= 0 and self.excess <= 0

    @property
    def rank(self) -> tuple[float, float, float]:
        """Quality first, then the metric, where a tenth makes no difference, then the least move."""
        return self.shortfall, round(self.excess, 1), self.distance


Judge = Callable[[Bounds], Judged]
# Directions of (complexity, confidence) thresholds, one at a time first.
_RAYS = ((1, 0), (0, -1), (0, 1), (-1, 0), (1, -1), (1, 1), (-1, -1), (-1, 1))


def nearest(home: Bounds, reach: float, judge: Judge) -> Judged:
    """Return the bounds nearest to ``home`` that hold, else the best within ``reach`` of it.

    Eight directions are scanned outward, since the p95 need not fall all along one, and the first step that
    holds is refined by bisection.
    """
    best = judge(home)
    if best.holds:
        return best
    for ray in _RAYS:
        inside = home
        for outside in _along(home, ray, reach):
            if best.holds and distance(home, outside) >= best.distance:
                break
            found = judge(outside)
            if found.holds:
                best = _refine(inside, found, judge)
                break
            if not best.holds and found.rank < best.rank:
                best = found
            inside = outside
    return best


def distance(one: Bounds, other: Bounds) -> float:
    """Return by how much the three knobs differ in sum."""
    return (
        abs(one.complexity - other.complexity)
        + abs(one.confidence - other.confidence)
        + abs(one.quality - other.quality)
    )


def _along(home: Bounds, ray: tuple[int, int], reach: float) -> Iterator[Bounds]:
    for step in range(1, STEPS + 1):
        by = reach * step / STEPS
        yield replace(
            home,
            complexity=min(1.0, max(0.0, home.complexity + ray[0] * by)),
            confidence=min(1.0, max(0.0, home.confidence + ray[1] * by)),
        )


def _refine(failing: Bounds, holding: Judged, judge: Judge) -> Judged:
    for _ in range(HALVINGS):
        at = holding.bounds
        middle = judge(
            replace(
                at,
                complexity=(at.complexity + failing.complexity) / 2,
                confidence=(at.confidence + failing.confidence) / 2,
                quality=(at.quality + failing.quality) / 2,
            )
        )
        if middle.holds:
            holding = middle
        else:
            failing = middle.bounds
    return holding


def highest(present: Bounds, judge: Judge) -> Judged:
    """Return the bar that buys most quality and holds, the nearest among equals; else the best."""
    tried = [judge(replace(present, quality=step / BARS)) for step in range(BARS + 1)]
    holding = [found for found in tried if found.holds]
    if not holding:
        return min(tried, key=lambda found: found.rank)
    most = max(found.forecast.quality for found in holding)
    best = min(
        (found for found in holding if found.forecast.quality >= most - SAME_QUALITY),
        key=lambda found: distance(present, found.bounds),
    )
    above = replace(present, quality=min(1.0, best.bounds.quality + 1 / BARS))
    return best if judge(above).holds else _refine(above, best, judge)
