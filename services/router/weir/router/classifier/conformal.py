"""Split-conformal prediction for one binary event: when both outcomes stay open, the prompt is doubtful."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FIT, UNFIT, ROWS = "fit", "unfit", "rows"
GRID = 100


def conformal_quantiles(
    probability: npt.NDArray[np.floating], wrong: npt.NDArray[np.bool_]
) -> dict[str, list[float]]:
    """Return what an artifact keeps of its calibration rows.

    The nonconformity of a row is 1 - P(its true outcome). The rows must not have trained the probabilities.

    Args:
        probability: calibrated probability that the small model's answer would not do, [n].
        wrong: whether it did not, [n].

    Returns:
        ``fit`` and ``unfit``: 101 quantiles of the nonconformity of the rows with that outcome, each the
        smallest score that at least k/100 of them do not exceed; ``rows``: how many of either there were.

    Raises:
        ValueError: an outcome has no rows.
    """
    scores = {FIT: probability[~wrong], UNFIT: 1.0 - probability[wrong]}
    if not all(len(each) for each in scores.values()):
        raise ValueError("conformal calibration needs rows of both outcomes")
    levels = np.arange(GRID + 1) / GRID
    found = {
        name: np.quantile(each, levels, method="inverted_cdf").astype(float).tolist()
        for name, each in scores.items()
    }
    return found | {ROWS: [float(len(each)) for each in scores.values()]}


@dataclass(frozen=True, slots=True)
class PredictionSets:
    """Which outcomes a probability leaves open.

    Attributes:
        fit_up_to: highest probability of an unfit answer at which "fit" stays open.
        unfit_from: lowest probability at which "unfit" stays open.
    """

    fit_up_to: float
    unfit_from: float

    def contains(self, probability: float, *, wrong: bool) -> bool:
        """Whether the set at this probability holds the outcome."""
        return probability >= self.unfit_from if wrong else probability <= self.fit_up_to

    def doubtful(self, probability: float) -> bool:
        """Whether the set is not a single outcome: both are open, or neither conforms."""
        return (probability <= self.fit_up_to) == (probability >= self.unfit_from)


def prediction_sets(
    quantiles: Mapping[str, Sequence[float]], error_rate: float, *, class_conditional: bool = False
) -> PredictionSets:
    """Return the sets that miss the true outcome of at most ``error_rate`` of exchangeable prompts.

    The threshold is the ceil((n + 1)(1 - alpha))/n quantile of the calibration scores (Vovk et al. 2005;
    Angelopoulos and Bates, arXiv 2107.07511, section 1), taken from the stored grid at the next level above,
    so that coverage is never less. Past the last row nothing can be excluded.

    Args:
        quantiles: as ``conformal_quantiles`` returns them.
        error_rate: alpha, over all prompts.
        class_conditional: hold it for fit and for unfit prompts each (Mondrian; the same, section 4.2).

    Raises:
        ValueError: quantiles of another shape.
    """
    _check(quantiles)
    fit_rows, unfit_rows = quantiles[ROWS]
    if class_conditional:
        fit = _at(quantiles[FIT], _level(fit_rows, error_rate))
        unfit = _at(quantiles[UNFIT], _level(unfit_rows, error_rate))
    else:
        fit = unfit = _pooled(quantiles, _level(fit_rows + unfit_rows, error_rate))
    return PredictionSets(fit_up_to=fit, unfit_from=1.0 - unfit)


def _check(quantiles: Mapping[str, Sequence[float]]) -> None:
    sizes = [len(quantiles.get(name, ())) for name in (FIT, UNFIT, ROWS)]
    if sizes != [GRID + 1, GRID + 1, 2]:
        raise ValueError(f"conformal quantiles of another shape: {sizes}")


def _level(rows: float, error_rate: float) -> float:
    return math.ceil((rows + 1) * (1 - error_rate)) / rows


def _at(grid: Sequence[float], level: float) -> float:
    """Return the stored quantile at the level or above; past the last row nothing is excluded."""
    # The rounding keeps 0.9 * 100 from becoming the 91st.
    return math.inf if level > 1 else grid[math.ceil(round(level * GRID, 9))]


def _pooled(quantiles: Mapping[str, Sequence[float]], level: float) -> float:
    """Return the smallest stored score that at least ``level`` of the rows of both outcomes do not exceed."""
    grids = [np.asarray(quantiles[name]) for name in (FIT, UNFIT)]
    scores = np.unique(np.concatenate(grids))
    covered = np.zeros(len(scores))
    for grid, rows in zip(grids, quantiles[ROWS], strict=True):
        # The highest stored level at or below a score bounds the share of such rows from below.
        below = np.searchsorted(grid, scores, side="right") - 1
        covered += np.maximum(below, 0) / GRID * rows
    enough = np.flatnonzero(covered >= level * sum(quantiles[ROWS]) - 1e-9)
    return float(scores[enough[0]]) if len(enough) else math.inf
