"""The heads of a fine-tuned trunk: its own, joined with the plain numbers, fitted to rows it never saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold

from weir.router.classifier.artifact import Calibration
from weir.router.classifier.conformal import conformal_quantiles
from weir.router.classifier.model import calibrated
from weir.router.training.recalibration import platt
from weir.router.training.trunk.batches import EVENTS

Rows = npt.NDArray[np.float32]
Matrix = npt.NDArray[np.float64]
_FOLDS = 5
_STRENGTHS = (0.003, 0.01, 0.03, 0.1, 0.3)
_OPSET = 18
_EDGE = 1e-6


@dataclass(frozen=True)
class Linear:
    """Logits = rows @ weight.T + bias; ``weight`` float64 [outputs, inputs]."""

    weight: Matrix
    bias: Matrix

    def __call__(self, rows: Rows) -> Matrix:
        """Return the logits, float64 [rows, outputs]."""
        made: Matrix = rows.astype(np.float64) @ self.weight.T + self.bias
        return made


@dataclass(frozen=True)
class TrunkHeads:
    """The heads as the trunk was trained with them, over its embedding: events [3, d] and domains [D, d]."""

    events: Linear
    domains: Linear


@dataclass(frozen=True)
class FittedHeads:
    """Heads over embedding and plain numbers, with what calibrates them; ``strengths`` by event."""

    events: Linear
    domains: Linear
    calibration: Calibration
    conformal: dict[str, list[float]]
    strengths: dict[str, float]


def fit(trunk: TrunkHeads, features: Rows, labels: Rows, seed: int = 0) -> FittedHeads:
    """Fit a logistic regression for each event over the trunk's three logits and the plain numbers.

    Everything is linear up to the sigmoid, so the result is one matrix over the features. The inverse
    strength of the penalty is chosen by cross-validation, and the calibration (Platt 1999) and the conformal
    quantiles are of the probabilities out of fold.

    Args:
        trunk: the heads over the embedding.
        features: embedding, then plain numbers, float32 [rows, d + k], of rows the trunk was not trained on.
        labels: float32 [rows, 3], in the order of ``EVENTS``; NaN where unknown.
        seed: of the folds.
    """
    width = trunk.events.weight.shape[1]
    inputs = np.concatenate([trunk.events(features[:, :width]), features[:, width:].astype(np.float64)], 1)
    mean, spread = inputs.mean(0), inputs.std(0) + _EDGE
    scaled = (inputs - mean) / spread
    weights, biases, strengths, unseen = [], [], {}, {}
    for index, name in enumerate(EVENTS):
        known = ~np.isnan(labels[:, index])
        happened = labels[known, index] > 0
        strength, out_of_fold = _chosen(scaled[known], happened, seed)
        model = LogisticRegression(C=strength, max_iter=1000).fit(scaled[known], happened)
        over_inputs = model.coef_[0] / spread
        weights.append(_unfolded(over_inputs, trunk.events.weight))
        biases.append(
            model.intercept_[0]
            - float(over_inputs @ mean)
            + float(over_inputs[: len(EVENTS)] @ trunk.events.bias)
        )
        strengths[name], unseen[name] = strength, out_of_fold
    wrong = labels[~np.isnan(labels[:, 0]), 0] > 0
    score = np.clip(unseen[EVENTS[0]], _EDGE, 1 - _EDGE)
    slope, intercept = platt(np.log(score / (1 - score)), wrong, np.ones(len(wrong)))
    calibration = Calibration(round(slope, 6), round(intercept, 6))
    numbers = features.shape[1] - width
    return FittedHeads(
        events=Linear(np.array(weights), np.array(biases)),
        domains=Linear(np.pad(trunk.domains.weight, ((0, 0), (0, numbers))), trunk.domains.bias),
        calibration=calibration,
        conformal=conformal_quantiles(calibrated(score, calibration), wrong),
        strengths=strengths,
    )


def _unfolded(over_inputs: Matrix, events: Matrix) -> Matrix:
    """Turn weights over [trunk logits, numbers] into weights over [embedding, numbers]."""
    return np.concatenate([over_inputs[: len(EVENTS)] @ events, over_inputs[len(EVENTS) :]])


def _chosen(scaled: Matrix, happened: npt.NDArray[np.bool_], seed: int) -> tuple[float, Matrix]:
    """Return the strength with the lowest log loss out of fold, and its probabilities there."""
    folds = list(StratifiedKFold(_FOLDS, shuffle=True, random_state=seed).split(scaled, happened))

    def predicted(strength: float) -> Matrix:
        made = np.empty(len(happened))
        for fitted, left in folds:
            model = LogisticRegression(C=strength, max_iter=1000).fit(scaled[fitted], happened[fitted])
            made[left] = model.predict_proba(scaled[left])[:, 1]
        return made

    def loss(probability: Matrix) -> float:
        clipped = np.clip(probability, _EDGE, 1 - _EDGE)
        return -float(np.mean(np.where(happened, np.log(clipped), np.log(1 - clipped))))

    tried = [(strength, predicted(strength)) for strength in _STRENGTHS]
    return min(tried, key=lambda each: loss(each[1]))


def write(heads: FittedHeads, target: Path) -> None:
    """Write ``heads.onnx``: P(complexity) and the gain, P(benefit) - P(harm); the domains' shares."""
    width = heads.events.weight.shape[1]
    nodes = [
        helper.make_node("Gemm", ["features", "event_weight", "event_bias"], ["logits"], transB=1),
        helper.make_node("Sigmoid", ["logits"], ["probabilities"]),
        helper.make_node("MatMul", ["probabilities", "combination"], ["events"]),
        helper.make_node("Gemm", ["features", "domain_weight", "domain_bias"], ["domain_logits"], transB=1),
        helper.make_node("Softmax", ["domain_logits"], ["domains"], axis=1),
    ]
    constants: dict[str, Matrix | Sequence[Sequence[float]]] = {
        "event_weight": heads.events.weight,
        "event_bias": heads.events.bias,
        "combination": [[1, 0], [0, 1], [0, -1]],
        "domain_weight": heads.domains.weight,
        "domain_bias": heads.domains.bias,
    }
    floats = TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "heads",
        [helper.make_tensor_value_info("features", floats, ["b", width])],
        [
            helper.make_tensor_value_info("events", floats, ["b", 2]),
            helper.make_tensor_value_info("domains", floats, ["b", len(heads.domains.bias)]),
        ],
        [numpy_helper.from_array(np.array(value, np.float32), name) for name, value in constants.items()],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=9, producer_name="weir"
    )
    onnx.checker.check_model(model)
    target.write_bytes(model.SerializeToString(deterministic=True))
