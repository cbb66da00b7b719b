"""The two pictures of an evaluation, drawn with matplotlib (extra ``weir[train]``) without a display."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from weir.router.training import baselines, metrics
from weir.router.training.dataset import Dataset
from weir.router.training.evaluation import Predictions
from weir.router.training.metrics import Floats
from weir.router.training.report import Figures, Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_INK, _MUTED, _GRID = "#1f2430", "#6b7280", "#e5e7eb"
_OURS = "#0b6fb8"
# Told apart by hue (Okabe and Ito's colors, safe for color-blind readers) and by dashes.
_STYLES: dict[str, tuple[str, str]] = {
    baselines.ORACLE: ("#009e73", "--"),
    baselines.DOMAIN: ("#e69f00", "-."),
    baselines.LENGTH: ("#d55e00", ":"),
    baselines.RANDOM: ("#9ca3af", "--"),
}
_BAND_POINTS = 400


def draw(path: Path, found: Predictions, data: Dataset, made: Report, train: Dataset | None) -> None:
    """Write a PNG: the share of right answers against the share of dear calls, and the reliability plot.

    Args:
        path: the file to write.
        found: the classifier's predictions.
        data: the rows that they are for.
        made: the report over both.
        train: the training rows, where at hand, for the domains' means.

    Raises:
        OSError: where the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 5.6), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    routes, reliable = figure.subplots(1, 2, width_ratios=(1.35, 1))
    _quality(routes, found.gain, data, made, train)
    _reliability(reliable, found.complexity, made)
    title = f"{made.rows:,} prompts of {data.name}, classifier {made.revision}"
    figure.suptitle(title, x=0.01, ha="left", color=_MUTED, fontsize=10)
    figure.savefig(path, format="png")


def _quality(axes: Axes, score: Floats, data: Dataset, made: Report, train: Dataset | None) -> None:
    weak, strong = data.weak, data.strong
    for name, other in baselines.scores(data, train).items():
        color, dashes = _STYLES[name]
        share, right = metrics.quality(other, weak, strong)
        label = _named(name, made.baselines[name])
        axes.plot(100 * share, 100 * right, dashes, color=color, linewidth=1.6, label=label)
    share, right = metrics.quality(score, weak, strong)
    axes.plot(
        100 * share, 100 * right, color=_OURS, linewidth=2.6, label=_named("classifier", made), zorder=5
    )
    ends = ((0, weak.mean(), baselines.CHEAP), (100, strong.mean(), baselines.DEAR))
    for at, accuracy, name in ends:
        axes.plot([at], [100 * accuracy], "o", color=_INK, markersize=6, zorder=6, clip_on=False)
        # The dear end is labeled beside the axes, the cheap one below the curves.
        place, text = ((9, -6) if at else (8, -28)), f"{name}\n{100 * accuracy:.1f} %"
        axes.annotate(text, (at, 100 * accuracy), place, textcoords="offset points", color=_INK, fontsize=9)
    _dress(
        axes, "Right answers by the share of dear calls", "sent to the strong model, %", "right answers, %"
    )
    axes.set_xlim(0, 100)
    axes.margins(y=0.12)
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(handles[::-1], labels[::-1], loc="lower right", frameon=False, fontsize=9)


def _named(name: str, measured: Figures) -> str:
    if measured.apgr is None:
        return name
    interval = measured.intervals.get("apgr")
    spread = f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval and interval[0] < interval[1] else ""
    return f"{name}: APGR {measured.apgr:.3f}{spread}"


def _reliability(axes: Axes, probability: Floats, made: Report) -> None:
    said, seen, rows = (np.array(column) for column in zip(*made.reliability, strict=True))
    axes.plot([0, 1], [0, 1], color=_MUTED, linewidth=1, linestyle="--", label="perfectly calibrated")
    _band(axes, float(np.mean(rows)))
    ece = f"classifier: ECE {made.ece:.3f}" if made.ece is not None else "classifier"
    axes.plot(said, seen, "o-", color=_OURS, linewidth=2, markersize=6, label=ece)
    _histogram(axes, probability)
    _dress(axes, "Reliability", "said: P(the small model is wrong)", "seen: share of wrong answers")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_aspect("equal")
    axes.legend(loc="upper left", frameon=False, fontsize=9)


def _band(axes: Axes, rows: float) -> None:
    """Shade where 95 % of the bins of perfect probabilities fall."""
    at = np.linspace(0, 1, _BAND_POINTS)
    half = 1.96 * np.sqrt(at * (1 - at) / rows)
    label = "95 % of bins, were it perfect"
    axes.fill_between(at, np.clip(at - half, 0, 1), np.clip(at + half, 0, 1), color=_GRID, label=label)


def _histogram(axes: Axes, probability: Floats) -> None:
    """Draw along the bottom how often each probability is said."""
    counts, edges = np.histogram(probability, bins=40, range=(0, 1))
    axes.bar(edges[:-1], 0.12 * counts / counts.max(), np.diff(edges), align="edge", color=_OURS, alpha=0.25)


def _dress(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(title, loc="left", color=_INK, fontsize=13, fontweight="bold", pad=10)
    axes.set_xlabel(x, color=_MUTED)
    axes.set_ylabel(y, color=_MUTED)
    axes.grid(color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=_MUTED, length=0)
    for side in axes.spines.values():
        side.set_visible(False)
