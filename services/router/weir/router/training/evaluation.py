"""What a classifier is worth on labeled prompts, beside the trivial baselines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from weir.router.classifier.model import Classifier
from weir.router.training import metrics
from weir.router.training.dataset import Bools, Dataset
from weir.router.training.metrics import Floats

Row = dict[str, float]
Table = dict[str, Row]
COLUMNS = ("rows", "ece", "brier", "auroc", "apgr", "cpt50", "cpt80")


@dataclass(frozen=True)
class Predictions:
    """The classifier's two probabilities for each row of a data set."""

    complexity: Floats
    benefit: Floats


def predict(classifier: Classifier, data: Dataset) -> Predictions:
    """Assess each row's prompt."""
    found = [classifier.classify(row.prompt) for row in data.rows]
    return Predictions(np.array([a.complexity for a in found]), np.array([a.benefit for a in found]))


def routing(score: Floats, data: Dataset, rows: Bools) -> Row:
    """Return rows, AUROC for "the small model is wrong", APGR, CPT(50 %), CPT(80 %); unless undefined."""
    weak, strong, score = data.weak[rows], data.strong[rows], score[rows]
    measured: Row = {"rows": float(len(score))}
    if 0 < weak.sum() < len(weak):
        measured["auroc"] = metrics.auroc(score, ~weak)
    if weak.mean() != strong.mean():
        measured["apgr"] = metrics.apgr(score, weak, strong)
        measured["cpt50"] = metrics.cpt(score, weak, strong, 0.5)
        measured["cpt80"] = metrics.cpt(score, weak, strong, 0.8)
    return measured


def calibration(probability: Floats, happened: Bools) -> Row:
    """Return ECE over 15 bins of equal mass, and the Brier score."""
    return {"ece": metrics.ece(probability, happened), "brier": metrics.brier(probability, happened)}


def measure(name: str, found: Predictions, data: Dataset, rows: Bools) -> Table:
    """Return one line for each head; ECE and Brier are those of the head's own event."""
    wrong = ~data.weak[rows]
    better = wrong & data.strong[rows]
    return {
        f"{name}: complexity": routing(found.complexity, data, rows)
        | calibration(found.complexity[rows], wrong),
        f"{name}: benefit": routing(found.benefit, data, rows) | calibration(found.benefit[rows], better),
    }


def baselines(data: Dataset, train: Dataset | None = None) -> Table:
    """Return what routing at random, by length, by an oracle and, given training data, by subject reaches."""
    everything = np.ones(len(data.rows), bool)
    length = np.array([float(len(row.prompt)) for row in data.rows])
    oracle = data.strong.astype(float) - data.weak
    table = {
        "baseline: random order": routing(np.zeros(len(data.rows)), data, everything),
        "baseline: prompt length": routing(length, data, everything),
        "baseline: oracle": routing(oracle, data, everything),
    }
    if train is not None:
        wrong, better = _subject_means(train, data)
        happened = ~data.weak
        table["baseline: subject's mean (wrong)"] = routing(wrong, data, everything) | calibration(
            wrong, happened
        )
        table["baseline: subject's mean (benefit)"] = routing(better, data, everything) | calibration(
            better, happened & data.strong
        )
    return table


def _subject_means(train: Dataset, data: Dataset) -> tuple[Floats, Floats]:
    wrong, better = ~train.weak, ~train.weak & train.strong

    def means(label: Bools) -> Mapping[str, float]:
        return {name: float(label[train.subjects == name].mean()) for name in set(train.subjects)}

    by_wrong, by_better = means(wrong), means(better)
    return (
        np.array([by_wrong.get(name, float(wrong.mean())) for name in data.subjects]),
        np.array([by_better.get(name, float(better.mean())) for name in data.subjects]),
    )


def evaluate(found: Predictions, data: Dataset, train: Dataset | None = None) -> Table:
    """Return the whole table: all rows, each source by itself, the baselines."""
    table = measure("all", found, data, np.ones(len(data.rows), bool))
    sources = sorted(set(data.sources) - {""})
    for source in sources if len(sources) > 1 else []:
        table |= measure(source, found, data, data.sources == source)
    return table | baselines(data, train)
