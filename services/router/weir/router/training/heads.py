"""The heads on the embedding: chosen by grouped cross-validation, calibrated, exported to ONNX."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from skl2onnx import to_onnx
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GroupKFold, StratifiedKFold, cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from weir.router.classifier.artifact import Calibration

Rows = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]
Names = npt.NDArray[np.str_]
# Inverse strengths of the L2 penalty that are tried.
STRENGTHS = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03)
_DOMAIN_STRENGTH = 0.01
_FOLDS = 5
_OPSET = 17


@dataclass(frozen=True)
class BinaryHead:
    """A fitted head, what made it, and its calibration."""

    model: Pipeline
    strength: float
    calibration: Calibration


def logistic(strength: float) -> Pipeline:
    """Return an unfitted head: standardized features, then L2 logistic regression."""
    return make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=2000))


def fit_binary(features: Rows, happened: Bools, subjects: Names, strength: float | None = None) -> BinaryHead:
    """Choose the strength, unless given, by log loss on left-out subjects; calibrate out of fold; fit on all.

    The calibration sees only predictions for rows that the model behind them had not seen (a stratified
    cross-validation, so that they are like those of in-domain traffic), and no row of the validation file.
    """
    strength = strength or _choose(features, happened, subjects)
    mixed = StratifiedKFold(_FOLDS, shuffle=True, random_state=0)
    unseen = _out_of_fold(strength, features, happened, mixed, None)
    model = logistic(strength).fit(features, happened)
    return BinaryHead(model, strength, _platt(unseen, happened))


def _choose(features: Rows, happened: Bools, subjects: Names) -> float:
    grouped = GroupKFold(min(_FOLDS, len(set(subjects))))

    def loss(strength: float) -> float:
        return float(log_loss(happened, _out_of_fold(strength, features, happened, grouped, subjects)))

    return min(STRENGTHS, key=loss)


def _out_of_fold(
    strength: float,
    features: Rows,
    happened: Bools,
    folds: GroupKFold | StratifiedKFold,
    subjects: Names | None,
) -> npt.NDArray[np.float64]:
    found = cross_val_predict(
        logistic(strength), features, happened, groups=subjects, cv=folds, method="predict_proba"
    )
    column: npt.NDArray[np.float64] = found[:, 1]
    return column


def _platt(score: npt.NDArray[np.float64], happened: Bools) -> Calibration:
    clipped = np.clip(score, 1e-6, 1 - 1e-6)
    logit = np.log(clipped / (1 - clipped))[:, None]
    fitted = LogisticRegression(C=np.inf).fit(logit, happened)
    return Calibration(round(float(fitted.coef_[0, 0]), 6), round(float(fitted.intercept_[0]), 6))


def fit_domain(features: Rows, groups: Names) -> Pipeline:
    """Fit the multinomial head over the groups of subjects."""
    return logistic(_DOMAIN_STRENGTH).fit(features, groups)


def export(model: Pipeline, dimensions: int, target: Path) -> None:
    """Write a fitted head as ONNX: ``features`` [n, dimensions] in, ``probabilities`` [n, classes] out."""
    options = {id(model): {"zipmap": False}}
    # A fixed name: the default holds a random id, and equal training should give equal bytes.
    made = to_onnx(
        model,
        np.zeros((1, dimensions), np.float32),
        name="head",
        options=options,
        target_opset=_OPSET,
    )
    made.graph.input[0].name = "features"
    for node in made.graph.node:
        node.input[:] = ["features" if name == "X" else name for name in node.input]
    kept = [output for output in made.graph.output if output.name == "probabilities"]
    del made.graph.output[:]
    made.graph.output.extend(kept)
    target.write_bytes(made.SerializeToString(deterministic=True))
