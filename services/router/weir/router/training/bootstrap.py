"""Percentile bootstrap intervals (Efron and Tibshirani 1993), many resamples at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from weir.router.training.metrics import BINS, Bools, Floats

Counts = npt.NDArray[np.int64]
# From counts [resamples, rows], how often each row was drawn, to one value a resample; NaN where undefined.
Statistic = Callable[[Counts], Floats]
Interval = tuple[float, float]
# Resampled cells held at once, eight bytes each.
_CELLS = 4_000_000
# Below this share of resamples in which a figure is defined, its interval would be that of luckier data.
_LEAST_DEFINED = 0.9


@dataclass(frozen=True)
class Resampling:
    """How to draw. Equal settings draw equal rows, so that differences between scores are paired."""

    samples: int = 1000
    level: float = 0.95
    seed: int = 0

    def draws(self, rows: int) -> Iterator[Counts]:
        """Yield blocks of counts, int64 [resamples, rows]; each row of a block sums to ``rows``."""
        generator = np.random.default_rng(self.seed)
        block = max(1, _CELLS // rows)
        for start in range(0, self.samples, block):
            size = min(block, self.samples - start)
            drawn = generator.integers(0, rows, (size, rows)) + rows * np.arange(size)[:, None]
            yield np.bincount(drawn.ravel(), minlength=size * rows).reshape(size, rows)

    def values(self, statistics: Mapping[str, Statistic], rows: int) -> dict[str, Floats]:
        """Return each statistic of every resample, float64 [samples], all over the same draws."""
        blocks = [{name: of(counts) for name, of in statistics.items()} for counts in self.draws(rows)]
        return {name: np.concatenate([block[name] for block in blocks]) for name in statistics if blocks}

    def intervals(
        self, statistics: Mapping[str, Statistic], rows: int, around: Mapping[str, float] | None = None
    ) -> dict[str, Interval]:
        """Return each figure's percentile interval, but those that too many resamples leave undefined.

        The resampled values of a figure in ``around`` are shifted so that their median falls on the value
        there, and cut off at 0: the ECE of a resample is on average above that of the rows it is drawn from.
        """
        if not rows:
            return {}
        centers = around or {}
        found = self.values(statistics, rows)
        made = {name: self._interval(values, centers.get(name)) for name, values in found.items()}
        return {name: interval for name, interval in made.items() if interval is not None}

    def _interval(self, values: Floats, center: float | None) -> Interval | None:
        defined = values[np.isfinite(values)]
        if len(defined) < max(1, _LEAST_DEFINED * len(values)):
            return None
        if center is not None:
            defined = np.maximum(defined - np.median(defined) + center, 0.0)
        tail = (1 - self.level) / 2
        low, high = np.quantile(defined, [tail, 1 - tail])
        return float(low), float(high)


def mean(values: npt.ArrayLike) -> Statistic:
    """Return the statistic "mean of ``values``", [rows]."""
    column = np.asarray(values, np.float64)

    def statistic(counts: Counts) -> Floats:
        found: Floats = (counts @ column) / counts.sum(axis=1)
        return found

    return statistic


def apgr(score: Floats, weak: Bools, strong: Bools) -> Statistic:
    """Return the statistic ``metrics.apgr`` of ``score``."""
    curves = _Curves(score, weak, strong)

    def statistic(counts: Counts) -> Floats:
        share, gap = curves.of(counts)
        return np.asarray(np.trapezoid(gap, share, axis=1), np.float64)

    return statistic


def cpt(score: Floats, weak: Bools, strong: Bools, target: float) -> Statistic:
    """Return the statistic ``metrics.cpt`` of ``score`` at ``target``, above 0."""
    curves = _Curves(score, weak, strong)

    def statistic(counts: Counts) -> Floats:
        share, gap = curves.of(counts)
        best = np.maximum.accumulate(gap, axis=1)
        at = np.maximum(np.argmax(best >= target, axis=1), 1)
        rows = np.arange(len(best))
        low, high = best[rows, at - 1], best[rows, at]
        with np.errstate(invalid="ignore", divide="ignore"):
            part = (target - low) / (high - low)
        result: Floats = share[rows, at - 1] + (share[rows, at] - share[rows, at - 1]) * part
        return result

    return statistic


def difference(one: Statistic, other: Statistic) -> Statistic:
    """Return the paired difference of two statistics over the same rows."""
    return lambda counts: one(counts) - other(counts)


def ece(probability: Floats, happened: Bools, bins: int = BINS) -> Statistic:
    """Return the statistic ``metrics.ece``; the bins of equal mass are drawn anew in each resample."""
    order = np.argsort(probability, kind="stable")
    error = (happened - probability)[order]

    def statistic(counts: Counts) -> Floats:
        drawn = counts[:, order]
        rows = int(drawn[0].sum())
        places = np.repeat(np.tile(np.arange(len(error)), len(drawn)), drawn.ravel())
        parts = np.array_split(error[places.reshape(len(drawn), rows)], bins, axis=1)
        total: Floats = np.sum([np.abs(part.sum(axis=1)) for part in parts], axis=0)
        return total / rows

    return statistic


class _Curves:
    """The curve of ``metrics.recovered_gap`` for every resample, with a point for every distinct score."""

    def __init__(self, score: Floats, weak: Bools, strong: Bools) -> None:
        self._order = np.argsort(-score, kind="stable")
        ranked = score[self._order]
        self._starts = np.concatenate([[0], np.flatnonzero(np.diff(ranked)) + 1])
        self._gain = strong[self._order].astype(np.int64) - weak[self._order]

    def of(self, counts: Counts) -> tuple[Floats, Floats]:
        """Return share and recovered gap, float64 [resamples, points]; the gap is NaN where there is none."""
        drawn = counts[:, self._order]
        sent = np.cumsum(np.add.reduceat(drawn, self._starts, axis=1), axis=1)
        gained = np.cumsum(np.add.reduceat(drawn * self._gain, self._starts, axis=1), axis=1)
        total = gained[:, -1:].astype(np.float64)
        gap = gained / np.where(total > 0, total, np.nan)
        start = np.zeros((len(counts), 1))
        return np.hstack([start, sent / sent[:, -1:]]), np.hstack([start, gap])
