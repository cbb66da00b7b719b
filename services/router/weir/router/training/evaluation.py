"""What a classifier is worth on labeled prompts, beside the trivial baselines: the figures, row by row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from weir.router.classifier.base import PromptClassifier
from weir.router.training import baselines as trivial
from weir.router.training import metrics
from weir.router.training.dataset import Bools, Dataset
from weir.router.training.metrics import Floats

Row = dict[str, float]
Table = dict[str, Row]
COLUMNS = (
    "rows",
    "weak_accuracy",
    "strong_accuracy",
    "apgr",
    "cpt50",
    "cpt80",
    "auroc",
    "ece",
    "brier",
)


@dataclass(frozen=True)
class Predictions:
    """What a classifier says of each row, float64 [rows]: P(small model wrong), and the expected gain."""

    complexity: Floats
    gain: Floats

    def where(self, rows: Bools) -> Predictions:
        """Return the predictions for the rows that ``rows``, bool [rows], picks."""
        return Predictions(self.complexity[rows], self.gain[rows])


def predict(classifier: PromptClassifier, data: Dataset) -> Predictions:
    """Assess each row's prompt by itself, as a single request would be: int8 rounds a batch together."""
    found = [classifier.assess([prompt])[0] for prompt in data.prompts]
    return Predictions(np.array([a.complexity for a in found]), np.array([a.gain for a in found]))


def has_gap(data: Dataset) -> bool:
    """Whether the strong model is right more often, without which there is no gap to recover."""
    return len(data.rows) > 0 and int(data.strong.sum()) > int(data.weak.sum())


def routing(score: Floats, data: Dataset) -> Row:
    """Return rows, accuracies, AUROC for "the small model is wrong", APGR, CPT(50 %), CPT(80 %).

    Figures that the rows leave undefined are absent: AUROC where the small model is always or never right,
    the others where the strong model is not better.
    """
    weak, strong = data.weak, data.strong
    measured: Row = {"rows": float(len(score))}
    if len(score):
        measured |= {"weak_accuracy": float(weak.mean()), "strong_accuracy": float(strong.mean())}
    if 0 < weak.sum() < len(weak):
        measured["auroc"] = metrics.auroc(score, ~weak)
    if has_gap(data):
        measured["apgr"] = metrics.apgr(score, weak, strong)
        measured["cpt50"] = metrics.cpt(score, weak, strong, 0.5)
        measured["cpt80"] = metrics.cpt(score, weak, strong, 0.8)
    return measured


def calibration(probability: Floats, happened: Bools) -> Row:
    """Return ECE over ``metrics.BINS`` bins of equal mass, and the Brier score; nothing for no rows."""
    if not len(probability):
        return {}
    return {"ece": metrics.ece(probability, happened), "brier": metrics.brier(probability, happened)}


def measure(found: Predictions, data: Dataset) -> Row:
    """Return the classifier's figures: routing by its gain; AUROC, ECE and Brier score of its complexity."""
    ranked = routing(found.complexity, data)
    better = routing(found.gain, data)
    if "auroc" in ranked:
        better["auroc"] = ranked["auroc"]
    return better | calibration(found.complexity, ~data.weak)


def baselines(data: Dataset, train: Dataset | None = None) -> Table:
    """Return the routing figures of each baseline that has an order of prompts."""
    return {name: routing(score, data) for name, score in trivial.scores(data, train).items()}


def by_source(data: Dataset) -> dict[str, Bools]:
    """Return which rows are from each source, where there are several."""
    names = sorted(set(data.sources.tolist()) - {""})
    return {name: data.sources == name for name in names} if len(names) > 1 else {}


def evaluate(found: Predictions, data: Dataset, train: Dataset | None = None) -> Table:
    """Return the whole table of figures: all rows, each source by itself, the baselines."""
    table = {"all": measure(found, data)}
    for name, rows in by_source(data).items():
        table[name] = measure(found.where(rows), data.where(rows))
    return table | {f"baseline: {name}": row for name, row in baselines(data, train).items()}
