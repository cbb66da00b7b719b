"""The heads on embedding and form: chosen by cross-validation, fitted in closed form, exported to ONNX."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss
from sklearn.model_selection import GroupKFold, StratifiedKFold
from sklearn.multiclass import OneVsRestClassifier

from weir.router.training.design import CLIP, PRODUCT_CLIP, Design, pairs

Rows = npt.NDArray[np.float32]
Matrix = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Names = npt.NDArray[np.str_]
# L2 penalties of the gain's ridge that are tried, per row of training data.
PENALTIES = (0.5, 1.0, 2.0, 4.0, 8.0)
# Inverse L2 penalties of the logistic regression that are tried.
STRENGTHS = (0.00003, 0.0001, 0.0003)
_DOMAIN_STRENGTH = 0.01
_FOLDS = 5
_OPSET = 18


@dataclass(frozen=True)
class Heads:
    """Linear maps over the design row (see ``design``), float64 [inputs, outputs] and [outputs].

    ``events`` has two outputs: the logit of "the small model is wrong", and the expected gain itself.
    ``domains`` has one logit for each name, each a probability by itself, so that several may hold.
    """

    design: Design
    events: tuple[Matrix, Matrix]
    domains: tuple[Matrix, Matrix]
    names: tuple[str, ...]
    penalties: tuple[float, float]

    @property
    def chosen(self) -> dict[str, str]:
        """What made the heads, in words."""
        penalty, strength = self.penalties
        return {
            "complexity": f"logistic regression, C={strength}",
            "gain": f"ridge regression, penalty {penalty} per row",
            "domains": f"one logistic regression each, C={_DOMAIN_STRENGTH}",
        }

    def complexity(self, features: Rows) -> Matrix:
        """Return the raw probability of a wrong answer, float64 [rows]."""
        return _sigmoid(self._events(features)[:, 0])

    def gain(self, features: Rows) -> Matrix:
        """Return the expected gain of the strong model, float64 [rows]."""
        return self._events(features)[:, 1]

    def _events(self, features: Rows) -> Matrix:
        weight, bias = self.events
        scores: Matrix = self.design.rows(features) @ weight + bias
        return scores


@dataclass(frozen=True)
class Labels:
    """What the heads learn, row by row; ``gain`` is strong right minus weak right and NaN where unknown."""

    wrong: Bools
    knows_wrong: Bools
    gain: Matrix
    weights: Matrix
    subjects: Names
    groups: Names

    def where(self, rows: npt.NDArray[np.intp]) -> Labels:
        """Return the rows that ``rows`` picks."""
        return Labels(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))


def fit(features: Rows, dimensions: int, labels: Labels) -> Heads:
    """Fit all heads; ``features`` float32 [rows, dimensions + form].

    Training on the gain, and not on the small model's error, is what routes: see docs/classifier.md. The
    penalties are those of the least loss over left-out rows and left-out subjects alike.
    """
    rows = Design.of(features, dimensions).rows(features)
    penalties = _best(PENALTIES, rows, labels, _gain_loss), _best(STRENGTHS, rows, labels, _complexity_loss)
    fitted = fit_events(features, dimensions, labels, penalties)
    names = tuple(sorted(set(labels.groups.tolist())))
    domains = _fit_domains(rows[:, :dimensions], rows.shape[1], labels, names)
    return replace(fitted, domains=domains, names=names)


def fit_events(features: Rows, dimensions: int, labels: Labels, penalties: tuple[float, float]) -> Heads:
    """Fit the events' heads alone, with penalties of the gain and of the complexity chosen before."""
    design = Design.of(features, dimensions)
    rows = design.rows(features)
    penalty, strength = penalties
    complexity, gain = _fit_complexity(rows, labels, strength), _fit_gain(rows, labels, penalty)
    events = (np.stack([complexity[0], gain[0]], axis=1), np.array([complexity[1], gain[1]]))
    return Heads(design, events, (np.zeros((rows.shape[1], 0)), np.zeros(0)), (), penalties)


Linear = tuple[Matrix, float]


def _fit_gain(rows: Matrix, labels: Labels, penalty: float) -> Linear:
    known = ~np.isnan(labels.gain)
    model = Ridge(alpha=penalty * int(known.sum())).fit(
        rows[known], labels.gain[known], sample_weight=labels.weights[known]
    )
    return np.asarray(model.coef_, np.float64), float(model.intercept_)


def _fit_complexity(rows: Matrix, labels: Labels, strength: float) -> Linear:
    known = labels.knows_wrong
    model = LogisticRegression(C=strength, solver="newton-cholesky").fit(
        rows[known], labels.wrong[known], sample_weight=labels.weights[known]
    )
    return np.asarray(model.coef_[0], np.float64), float(model.intercept_[0])


def _fit_domains(
    embeddings: Matrix, inputs: int, labels: Labels, names: tuple[str, ...]
) -> tuple[Matrix, Matrix]:
    one_each = OneVsRestClassifier(LogisticRegression(C=_DOMAIN_STRENGTH, solver="newton-cholesky"))
    one_each.fit(embeddings, labels.groups)
    weight = np.zeros((inputs, len(names)))
    # Two groups make one estimator, for the second of them.
    signs = (-1.0, 1.0) if len(names) == 2 else (1.0,) * len(names)
    models = one_each.estimators_ * (2 if len(names) == 2 else 1)
    for column, (sign, model) in enumerate(zip(signs, models, strict=True)):
        weight[: embeddings.shape[1], column] = sign * model.coef_[0]
    return weight, np.array([sign * model.intercept_[0] for sign, model in zip(signs, models, strict=True)])


def _gain_loss(rows: Matrix, labels: Labels, kept: Bools, left: Bools, penalty: float) -> float:
    coefficients, intercept = _fit_gain(rows[kept], labels.where(np.flatnonzero(kept)), penalty)
    known = left & ~np.isnan(labels.gain)
    return float(np.mean((rows[known] @ coefficients + intercept - labels.gain[known]) ** 2))


def _complexity_loss(rows: Matrix, labels: Labels, kept: Bools, left: Bools, strength: float) -> float:
    coefficients, intercept = _fit_complexity(rows[kept], labels.where(np.flatnonzero(kept)), strength)
    known = left & labels.knows_wrong
    return float(
        log_loss(labels.wrong[known], _sigmoid(rows[known] @ coefficients + intercept), labels=[0, 1])
    )


Loss = Callable[[Matrix, Labels, Bools, Bools, float], float]


def _best(candidates: tuple[float, ...], rows: Matrix, labels: Labels, loss: Loss) -> float:
    # Two parts of either kind tell as much as all of them, in less than half the time.
    parts = [*folds(labels, grouped=False)[:2], *folds(labels, grouped=True)[:2]]

    def total(candidate: float) -> float:
        return sum(loss(rows, labels, kept, left, candidate) for kept, left in parts)

    return min(candidates, key=total)


def folds(labels: Labels, *, grouped: bool) -> list[tuple[Bools, Bools]]:
    """Return (kept, left) masks of five parts: left-out rows, or where ``grouped`` left-out subjects."""
    count = len(labels.subjects)
    if grouped:
        splitter = GroupKFold(min(_FOLDS, len(set(labels.subjects))))
        parts = splitter.split(np.zeros(count), groups=labels.subjects)
    else:
        parts = StratifiedKFold(_FOLDS, shuffle=True, random_state=0).split(np.zeros(count), labels.wrong)
    made = []
    for _, left in parts:
        mask = np.zeros(count, bool)
        mask[left] = True
        made.append((~mask, mask))
    return made


def _sigmoid(scores: Matrix) -> Matrix:
    return np.asarray(1 / (1 + np.exp(-scores)), np.float64)


def export(heads: Heads, target: Path) -> None:
    """Write ``features`` [b, inputs] → ``events`` [b, 2], ``domains`` [b, D] as ONNX, the design included."""
    design = heads.design
    first, second = pairs(len(design.mean) - design.dimensions)
    constants = {
        "mean": design.mean[None],
        "spread": design.spread[None],
        "event_weight": heads.events[0],
        "event_bias": heads.events[1],
        "domain_weight": heads.domains[0],
        "domain_bias": heads.domains[1],
    }
    sizes = {
        "sizes": np.array([design.dimensions, len(design.mean) - design.dimensions]),
        "first": first,
        "second": second,
        "gain_at": np.array([1]),
        "wrong_at": np.array([0]),
    }
    limits = {"low": -CLIP, "high": CLIP, "low2": -PRODUCT_CLIP, "high2": PRODUCT_CLIP}
    initializers = [
        *(numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in constants.items()),
        *(numpy_helper.from_array(np.asarray(value, np.int64), name) for name, value in sizes.items()),
        *(numpy_helper.from_array(np.array(value, np.float32), name) for name, value in limits.items()),
    ]
    outputs = {"events": 2, "domains": len(heads.names)}
    graph = helper.make_graph(
        _nodes(),
        "heads",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["b", len(design.mean)])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["b", size])
            for name, size in outputs.items()
        ],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=9)
    target.write_bytes(model.SerializeToString(deterministic=True))


def _nodes() -> list[onnx.NodeProto]:
    make = helper.make_node
    return [
        make("Sub", ["features", "mean"], ["centered"]),
        make("Div", ["centered", "spread"], ["scaled"]),
        make("Split", ["scaled", "sizes"], ["embedding", "form_free"], axis=1),
        make("Clip", ["form_free", "low", "high"], ["form"]),
        make("Gather", ["form", "first"], ["left"], axis=1),
        make("Gather", ["form", "second"], ["right"], axis=1),
        make("Mul", ["left", "right"], ["free_products"]),
        make("Clip", ["free_products", "low2", "high2"], ["products"]),
        make("Concat", ["embedding", "form", "products"], ["row"], axis=1),
        make("Gemm", ["row", "event_weight", "event_bias"], ["scores"]),
        make("Gather", ["scores", "wrong_at"], ["wrong_score"], axis=1),
        make("Gather", ["scores", "gain_at"], ["gain"], axis=1),
        make("Sigmoid", ["wrong_score"], ["wrong"]),
        make("Concat", ["wrong", "gain"], ["events"], axis=1),
        make("Gemm", ["row", "domain_weight", "domain_bias"], ["domain_scores"]),
        make("Sigmoid", ["domain_scores"], ["domains"]),
    ]
