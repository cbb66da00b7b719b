"""Replays as pictures (needs matplotlib, which the extra ``train`` brings)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from weir.router.control.state import KNOBS
from weir.router.replay.comparison import Row
from weir.router.replay.simulation import Course


class PlotError(RuntimeError):
    """A picture that cannot be drawn here; the message says what to do."""


def plot_comparison(rows: Sequence[Row], path: Path) -> None:
    """Draw expected quality against cost per query, with the intervals. Raises PlotError."""
    figure, (axis,) = _figure(1)
    for index, row in enumerate(rows):
        cost, quality = row.cost_usd, row.quality
        if cost.value is None or quality.value is None:
            continue
        color = "black" if index == 0 else "tab:blue"
        axis.errorbar(
            cost.value * 1000, quality.value,
            xerr=_reach(cost.value, cost.low, cost.high, 1000),
            yerr=_reach(quality.value, quality.low, quality.high, 1),
            fmt="s" if index == 0 else "o", color=color, elinewidth=0.6,
        )  # fmt: skip
        axis.annotate(
            row.name,
            (cost.value * 1000, quality.value),
            fontsize=7,
            xytext=(4, 4),
            textcoords="offset points",
        )
    axis.set_xlabel("USD per 1,000 queries")
    axis.set_ylabel("expected share of right answers")
    _save(figure, path)


def plot_course(course: Course, path: Path) -> None:
    """Draw thresholds, p95 and cost over time. Raises PlotError."""
    figure, (bounds, times, costs) = _figure(3)
    hours = [span.start_s / 3600 for span in course.spans]
    courses = {name: [getattr(span, name) for span in course.spans] for name in KNOBS}
    moving = {name: values for name, values in courses.items() if len(set(values)) > 1} or courses
    for name, values in moving.items():
        bounds.step(hours, values, where="post", label=name)
    times.plot(
        hours, [_finite(span.p95_recorded_s) for span in course.spans], label="as recorded", color="gray"
    )
    times.plot(hours, [_finite(span.p95_controlled_s) for span in course.spans], label="controlled")
    costs.plot(
        hours, [span.cost_recorded_usd * 1000 for span in course.spans], label="as recorded", color="gray"
    )
    costs.plot(hours, [span.cost_controlled_usd * 1000 for span in course.spans], label="controlled")
    (times if "latency" in course.metric else costs).axhline(
        course.target * (1 if "latency" in course.metric else 1000),
        color="tab:red",
        linewidth=0.8,
        label="target",
    )
    for axis, label in (
        (bounds, "thresholds"),
        (times, "p95 to the first token, s"),
        (costs, "USD per 1,000"),
    ):
        axis.set_ylabel(label)
        axis.legend(fontsize=7)
    costs.set_xlabel("hours")
    _save(figure, path)


def _figure(rows: int) -> tuple[Any, Any]:
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise PlotError(
            "A plot needs matplotlib: install the extra with `pip install 'weir[train]'`."
        ) from None
    figure = Figure(figsize=(7.5, 2 + 2.6 * rows), dpi=150, layout="constrained")
    return figure, figure.subplots(rows, 1, squeeze=False, sharex=True)[:, 0]


def _save(figure: Any, path: Path) -> None:
    try:
        figure.savefig(path)
    except (OSError, ValueError) as error:
        raise PlotError(f"{path} cannot be written: {error}.") from None


def _reach(value: float, low: float | None, high: float | None, scale: float) -> list[list[float]]:
    """Return how far an interval reaches to both sides, as error bars take it."""
    below = 0.0 if low is None else max(0.0, value - low)
    above = 0.0 if high is None else max(0.0, high - value)
    return [[below * scale], [above * scale]]


def _finite(seconds: float | None) -> float:
    return math.nan if seconds is None or math.isinf(seconds) else seconds
