"""The heads of a fine-tuned trunk: its own, calibrated on rows that it never saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from sklearn.model_selection import StratifiedKFold

from weir.router.classifier.artifact import Calibration
from weir.router.classifier.conformal import conformal_quantiles
from weir.router.classifier.model import calibrated
from weir.router.training.recalibration import platt
from weir.router.training.trunk.batches import EVENTS

Rows = npt.NDArray[np.float32]
Matrix = npt.NDArray[np.float64]
_FOLDS = 5
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
    """Heads over embedding and plain numbers, with what calibrates them; ``slopes`` by event."""

    events: Linear
    domains: Linear
    calibration: Calibration
    conformal: dict[str, list[float]]
    slopes: dict[str, float]


def fit(trunk: TrunkHeads, features: Rows, labels: Rows, seed: int = 0) -> FittedHeads:
    """Calibrate the trunk's logit of each event (Platt 1999) on rows that the trunk was not trained on.

    Slope and intercept are folded into the heads' own matrix. The plain numbers get no weight: fitted to as
    few rows as are held out, they cost more order than they gave. What the artifact keeps as calibration and
    conformal quantiles is of probabilities out of fold.

    Args:
        trunk: the heads over the embedding.
        features: embedding, then plain numbers, float32 [rows, d + k].
        labels: float32 [rows, 3], in the order of ``EVENTS``; NaN where unknown.
        seed: of the folds.
    """
    width, numbers = trunk.events.weight.shape[1], features.shape[1] - trunk.events.weight.shape[1]
    logits = trunk.events(features[:, :width])
    slopes, intercepts, unseen = np.empty(len(EVENTS)), np.empty(len(EVENTS)), {}
    for index, name in enumerate(EVENTS):
        known = ~np.isnan(labels[:, index])
        happened = labels[known, index] > 0
        slopes[index], intercepts[index] = _scaled(logits[known, index], happened)
        unseen[name] = _out_of_fold(logits[known, index], happened, seed)
    wrong = labels[~np.isnan(labels[:, 0]), 0] > 0
    slope, intercept = _scaled(_logit(unseen[EVENTS[0]]), wrong)
    calibration = Calibration(round(slope, 6), round(intercept, 6))
    return FittedHeads(
        events=_padded(
            Linear(slopes[:, None] * trunk.events.weight, slopes * trunk.events.bias + intercepts), numbers
        ),
        domains=_padded(trunk.domains, numbers),
        calibration=calibration,
        conformal=conformal_quantiles(calibrated(unseen[EVENTS[0]], calibration), wrong),
        slopes={name: round(float(slopes[index]), 4) for index, name in enumerate(EVENTS)},
    )


def _padded(head: Linear, numbers: int) -> Linear:
    """Give the plain numbers, which follow the embedding, no weight."""
    return Linear(np.pad(head.weight, ((0, 0), (0, numbers))), head.bias)


def _scaled(logit: Matrix, happened: npt.NDArray[np.bool_]) -> tuple[float, float]:
    return platt(logit, happened, np.ones(len(logit)))


def _logit(probability: Matrix) -> Matrix:
    clipped = np.clip(probability, _EDGE, 1 - _EDGE)
    made: Matrix = np.log(clipped / (1 - clipped))
    return made


def _out_of_fold(logit: Matrix, happened: npt.NDArray[np.bool_], seed: int) -> Matrix:
    """Return each row's probability by a calibration that had not seen the row."""
    made = np.empty(len(logit))
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=seed)
    for fitted, left in folds.split(logit[:, None], happened):
        slope, intercept = _scaled(logit[fitted], happened[fitted])
        made[left] = 1 / (1 + np.exp(-(slope * logit[left] + intercept)))
    return made


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
