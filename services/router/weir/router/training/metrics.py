"""Measures of a router and of its probabilities; all take plain arrays, row by row.

Routing measures after RouteLLM (arXiv 2406.18665), computed from their definition on the whole curve instead
of eleven thresholds. ``score`` is high where the strong model is wanted.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
# Of the ECE and the reliability plot.
BINS = 10


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


def quality(score: Floats, weak: Bools, strong: Bools) -> tuple[Floats, Floats]:
    """Return the curve (share sent to the strong model, share of right answers), with or without a gap."""
    order = np.argsort(-score, kind="stable")
    right = weak.sum() + np.cumsum(strong[order].astype(int) - weak[order].astype(int))
    ends = np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)
    share = np.concatenate([[0.0], (ends + 1) / len(score)])
    return share, np.concatenate([[weak.mean()], right[ends] / len(score)])


def least_escalated(wrong: float, tolerated: float) -> float:
    """Return the share that any router has to escalate so that at most ``tolerated`` of what stays is wrong.

    (mu - alpha) / (1 - alpha), with the small model wrong on a share mu of all prompts and alpha below 1.
    """
    return max(0.0, (wrong - tolerated) / (1 - tolerated))


def escalated(score: Floats, wrong: Bools, tolerated: float) -> float:
    """Return the smallest share, highest scores first, that leaves at most ``tolerated`` of the rest wrong.

    Rows of equal score go together. Never below ``least_escalated``, which an oracle reaches.
    """
    order = np.argsort(-score, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)
    left = wrong.sum() - np.concatenate([[0], np.cumsum(wrong[order])[ends]])
    kept = len(score) - np.concatenate([[0], ends + 1])
    return float(1 - kept[np.flatnonzero(left <= tolerated * kept)[0]] / len(score))


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


def reliability(probability: Floats, happened: Bools, bins: int = BINS) -> list[tuple[float, float, int]]:
    """Return (mean probability, observed share, rows) for bins of equal mass, lowest first."""
    parts = np.array_split(np.argsort(probability, kind="stable"), bins)
    return [(float(probability[p].mean()), float(happened[p].mean()), len(p)) for p in parts if len(p)]


def ece(probability: Floats, happened: Bools, bins: int = BINS) -> float:
    """Return the expected calibration error over bins of equal mass."""
    rows = reliability(probability, happened, bins)
    return sum(count * abs(said - seen) for said, seen, count in rows) / len(probability)


def ece_by_chance(probability: Floats, bins: int = BINS, draws: int = 500) -> tuple[float, float]:
    """Return the ECE that perfect probabilities show on as many rows: its mean, and what 95 % stay below.

    The outcomes are drawn from the probabilities themselves, with a fixed seed.
    """
    ranked = np.sort(probability)
    happened = np.random.default_rng(0).random((draws, len(ranked))) < ranked
    parts = np.array_split(happened - ranked, bins, axis=1)
    found = np.sum([np.abs(part.sum(axis=1)) for part in parts], axis=0) / len(ranked)
    return float(found.mean()), float(np.quantile(found, 0.95))
