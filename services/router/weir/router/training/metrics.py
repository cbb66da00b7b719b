"""Measures of a router and of its probabilities; all take plain arrays, row by row.

Routing measures after RouteLLM (arXiv 2406.18665), computed from their definition on the whole curve instead
of eleven thresholds. ``score`` is high where the strong model is wanted.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


def recovered_gap(score: Floats, weak: Bools, strong: Bools) -> tuple[Floats, Floats]:
    """Return the curve (share sent to the strong model, performance gap recovered), from share 0 to 1.

    Rows of equal score go together, so between them the curve is the straight line that a random order among
    them gives in the mean. Raises ValueError where both models are right equally often.
    """
    order = np.argsort(-score, kind="stable")
    gained = np.cumsum(strong[order].astype(int) - weak[order].astype(int))
    if gained[-1] == 0:
        raise ValueError("the two models are right equally often, so there is no gap to recover")
    ends = np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)
    share = np.concatenate([[0.0], (ends + 1) / len(score)])
    return share, np.concatenate([[0.0], gained[ends] / gained[-1]])


def apgr(score: Floats, weak: Bools, strong: Bools) -> float:
    """Return the area under the recovered gap: 0.5 for a random order, above 1 for an oracle."""
    share, gap = recovered_gap(score, weak, strong)
    return float(np.trapezoid(gap, share))


def cpt(score: Floats, weak: Bools, strong: Bools, target: float) -> float:
    """Return the smallest share of strong calls that recovers ``target`` of the gap (running maximum)."""
    share, gap = recovered_gap(score, weak, strong)
    best = np.maximum.accumulate(gap)
    at = int(np.searchsorted(best, target))
    if at == 0:
        return 0.0
    low, high = best[at - 1], best[at]
    return float(share[at - 1] + (share[at] - share[at - 1]) * (target - low) / (high - low))


def auroc(score: Floats, positive: Bools) -> float:
    """Return the probability that a positive row scores above a negative one, ties counting half."""
    values, place, counts = np.unique(score, return_inverse=True, return_counts=True)
    del values
    mean_rank = np.cumsum(counts) - (counts - 1) / 2
    ups = int(positive.sum())
    downs = len(score) - ups
    if not ups or not downs:
        raise ValueError("AUROC needs both outcomes")
    return float((mean_rank[place][positive].sum() - ups * (ups + 1) / 2) / (ups * downs))


def brier(probability: Floats, happened: Bools) -> float:
    """Return the mean squared error of the probabilities."""
    return float(np.mean((probability - happened) ** 2))


def reliability(probability: Floats, happened: Bools, bins: int = 15) -> list[tuple[float, float, int]]:
    """Return (mean probability, observed share, rows) for bins of equal mass, lowest first."""
    parts = np.array_split(np.argsort(probability, kind="stable"), bins)
    return [(float(probability[p].mean()), float(happened[p].mean()), len(p)) for p in parts if len(p)]


def ece(probability: Floats, happened: Bools, bins: int = 15) -> float:
    """Return the expected calibration error over bins of equal mass."""
    rows = reliability(probability, happened, bins)
    return sum(count * abs(said - seen) for said, seen, count in rows) / len(probability)
