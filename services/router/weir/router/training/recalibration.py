"""Probabilities fitted to a user's own labels: the weights stay, the calibration on top of them moves."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from weir.router.classifier import artifact
from weir.router.classifier.artifact import ArtifactMetadata, Calibration
from weir.router.classifier.conformal import conformal_quantiles
from weir.router.classifier.model import calibrated
from weir.router.training import metrics
from weir.router.training.dataset import Bools, Dataset
from weir.router.training.duplicates import prompt_key
from weir.router.training.metrics import Floats

FEWEST = 30
_FOLDS = 5
_EDGE = 1e-6
_STEPS = 50
_RIDGE = 1e-6
_ROWS_PER_POINT, _FEWEST_POINTS, _MOST_POINTS = 120, 3, 12


class UnfitLabelsError(ValueError):
    """The labels cannot calibrate; the message says what they lack."""


@dataclass(frozen=True)
class Recalibration:
    """A new calibration and what it does.

    Attributes:
        calibration: of the complexity's raw score, replacing the present one.
        conformal: quantiles for ``classifier.conformal``, of cross-fitted probabilities.
        before: ECE and Brier score of the present probabilities.
        after: those of probabilities for rows that the calibration behind them had not seen.
        rows: how many rows told whether the small model was right.
    """

    calibration: Calibration
    conformal: dict[str, list[float]]
    before: dict[str, float]
    after: dict[str, float]
    rows: int


def recalibrate(complexity: Floats, data: Dataset, present: Calibration | None) -> Recalibration:
    """Fit a calibration of ``complexity`` to ``data``, and fold it into the ``present`` one.

    Without a present one, raw scores are bent through points (see ``bent``); probabilities that are
    calibrated already get Platt scaling (1999) on top.

    Args:
        complexity: the classifier's present probability for each row, float64 [rows].
        data: rows that all say whether the small model was right.
        present: the artifact's calibration; ``None`` for raw scores.

    Raises:
        UnfitLabelsError: for fewer than 30 rows, or fewer than five of either outcome.
    """
    wrong = ~data.weak
    _check(data.name, wrong)
    weights = data.weights / data.weights.mean()
    fit = bent if present is None else _platt
    crossed = _cross_fitted(fit, complexity, wrong, weights, _folds(data))
    found = fit(complexity, wrong, weights)
    return Recalibration(
        calibration=found if present is None else _folded(present, found),
        conformal=conformal_quantiles(crossed, wrong),
        before=_errors(complexity, wrong),
        after=_errors(crossed, wrong),
        rows=len(wrong),
    )


def write(made: Recalibration, metadata: ArtifactMetadata, source: Path, out: Path) -> ArtifactMetadata:
    """Write the artifact in ``source`` with the new calibration to ``out``, and return its metadata.

    The measured figures of the old one are dropped: they are not those of the new probabilities.
    """
    out.mkdir(parents=True, exist_ok=True)
    for name in metadata.files:
        shutil.copyfile(source / name, out / name)
    for name in ("NOTICE", "LICENSE"):
        if (source / name).is_file():
            shutil.copyfile(source / name, out / name)
    changed = msgspec.structs.replace(
        metadata, calibration=made.calibration, conformal=made.conformal, metrics={}
    )
    sealed = artifact.sealed(changed, out)
    artifact.write_metadata(sealed, out)
    return sealed


def platt(logit: Floats, happened: Bools, weights: Floats) -> tuple[float, float]:
    """Return slope, at least 0, and intercept of the logistic regression of ``happened`` on ``logit``.

    A negative slope would turn the classifier's order around; then the mean alone is fitted.
    """
    slope, intercept = _regression(logit, happened, weights)
    if slope > 0:
        return float(slope), float(intercept)
    return 0.0, float(_logit(np.array([np.average(happened, weights=weights)]))[0])


def bent(score: Floats, happened: Bools, weights: Floats) -> Calibration:
    """Return the calibration of ``happened`` by ``score`` through points, one for every 120 rows or so.

    The rows are cut by score into parts of equal size; a point is a part's mean logit and the logit of its
    share, made to rise by isotonic regression (Zadrozny and Elkan 2002). Few rows get Platt scaling.
    """
    parts = min(len(score) // _ROWS_PER_POINT, _MOST_POINTS)
    if parts < _FEWEST_POINTS:
        return _platt(score, happened, weights)
    logit = _logit(score)
    cut = np.array_split(np.argsort(logit, kind="stable"), parts)
    at = [float(np.average(logit[rows], weights=weights[rows])) for rows in cut]
    shares = [float(np.average(happened[rows], weights=weights[rows])) for rows in cut]
    # No share of finitely many rows is 0 or 1 for certain.
    edge = 0.5 / _ROWS_PER_POINT
    to = _logit(np.clip(_rising(shares), edge, 1 - edge))
    # Equal scores make equal parts: one point stands for them.
    points = {round(x, 6): round(float(y), 6) for x, y in zip(at, to, strict=True)}
    return Calibration(1.0, 0.0, list(points.items()))


def _rising(shares: list[float]) -> Floats:
    """Pool neighbors that fall (Ayer et al. 1955), all parts counting alike."""
    pools: list[tuple[float, int]] = []
    for share in shares:
        pools.append((share, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (one, many), (other, more) = pools[-2:]
            pools[-2:] = [((one * many + other * more) / (many + more), many + more)]
    return np.concatenate([np.full(count, share) for share, count in pools])


def _platt(probability: Floats, happened: Bools, weights: Floats) -> Calibration:
    return _rounded(*platt(_logit(probability), happened, weights), [])


def _regression(logit: Floats, happened: Bools, weights: Floats) -> Floats:
    """Return slope and intercept of a logistic regression.

    Newton's method, with a ridge toward 1 and 0 that only matters where the rows separate.
    """
    inputs, start = np.column_stack([logit, np.ones_like(logit)]), np.array([1.0, 0.0])
    found = start.copy()
    for _ in range(_STEPS):
        probability = _sigmoid(inputs @ found)
        slant = inputs.T @ (weights * (happened - probability)) - _RIDGE * (found - start)
        curve = (inputs.T * (weights * probability * (1 - probability))) @ inputs
        step = np.linalg.solve(curve + _RIDGE * np.eye(len(found)), slant)
        found = found + np.clip(step, -2.0, 2.0)
        if np.abs(step).max() < 1e-9:
            break
    return found


def _check(name: str, wrong: Bools) -> None:
    if len(wrong) < FEWEST:
        raise UnfitLabelsError(
            f"{name}: {len(wrong)} rows say whether the small model was right; {FEWEST} are needed."
        )
    if min(wrong.sum(), len(wrong) - wrong.sum()) < _FOLDS:
        raise UnfitLabelsError(
            f"{name}: the small model is right on {len(wrong) - wrong.sum()} of {len(wrong)} rows; at least "
            f"{_FOLDS} right and {_FOLDS} wrong answers are needed."
        )


def _folds(data: Dataset) -> list[Bools]:
    """Return five parts, by the order of the prompts' hashes, with equal shares of either outcome."""
    keys = np.array([prompt_key(prompt) for prompt in data.prompts])
    part = np.empty(len(keys), int)
    for outcome in (True, False):
        rows = np.flatnonzero(data.weak == outcome)
        part[rows[np.argsort(keys[rows], kind="stable")]] = np.arange(len(rows)) % _FOLDS
    return [part == number for number in range(_FOLDS)]


Fit = Callable[[Floats, Bools, Floats], Calibration]


def _cross_fitted(fit: Fit, score: Floats, wrong: Bools, weights: Floats, parts: list[Bools]) -> Floats:
    found = np.empty(len(score))
    for held in parts:
        found[held] = calibrated(score[held], fit(score[~held], wrong[~held], weights[~held]))
    return found


def _folded(present: Calibration, above: Calibration) -> Calibration:
    """Return ``present`` followed by a Platt scaling."""
    intercept = above.slope * present.intercept + above.intercept
    return _rounded(above.slope * present.slope, intercept, present.points)


def _rounded(slope: float, intercept: float, points: list[tuple[float, float]]) -> Calibration:
    return Calibration(round(slope, 6), round(intercept, 6), points)


def _errors(probability: Floats, wrong: Bools) -> dict[str, float]:
    return {"ece": metrics.ece(probability, wrong), "brier": metrics.brier(probability, wrong)}


def _logit(probability: Floats) -> Floats:
    clipped = np.clip(probability, _EDGE, 1 - _EDGE)
    return np.asarray(np.log(clipped / (1 - clipped)), np.float64)


def _sigmoid(logit: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-logit)), np.float64)
