"""The report of an evaluation: figures with bootstrap intervals, and the curves behind them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import msgspec
import numpy as np

from weir.router.training import baselines, bootstrap, evaluation, metrics
from weir.router.training.bootstrap import Interval, Resampling, Statistic
from weir.router.training.dataset import Bools, Dataset
from weir.router.training.evaluation import Predictions, Row
from weir.router.training.metrics import Floats

_POINTS = 101
UNMEASURED = "the two models are right equally often, or the strong one less: no APGR and no CPT"


class Figures(msgspec.Struct, frozen=True):
    """Figures of some rows; ``None`` where the rows leave one undefined. ``intervals`` are of 95 %."""

    rows: int
    apgr: float | None = None
    cpt50: float | None = None
    cpt80: float | None = None
    ece: float | None = None
    weak_accuracy: float | None = None
    strong_accuracy: float | None = None
    auroc: float | None = None
    brier: float | None = None
    intervals: dict[str, Interval] = {}


class Escalation(msgspec.Struct, frozen=True):
    """What share has to be escalated so that at most ``tolerated`` of the answers that stay are wrong.

    ``least`` is what any router needs (see ``metrics.least_escalated``), ``needed`` what this one does.
    """

    tolerated: float
    least: float
    needed: float


class Advantage(msgspec.Struct, frozen=True):
    """The classifier's APGR less another's over the same rows, and the paired interval of the difference."""

    apgr: float
    interval: Interval | None


class Report(Figures, frozen=True):
    """All figures of one classifier on one file.

    Attributes:
        revision: the classifier's.
        data: the file's name.
        baselines: figures of what needs no classifier (see ``baselines``).
        advantage: how far ahead of each baseline the classifier is.
        by_source: figures of each source, where there are several.
        unseen_domains: figures of the rows whose domain the classifier was not trained on; ``None`` where
            there are none, or where the domains of training are unknown.
        unseen_names: those domains.
        unseen_in_training: what training found for domains left out of it, from the artifact's own metrics.
        curve: [share sent to the strong model, share of right answers], at most 101 points.
        reliability: [mean probability, observed share, rows] of the bins of the ECE.
        ece_by_chance: the ECE that perfect probabilities show on as many rows: its mean, and what 95 % of
            such files stay below.
        escalation: how much must be escalated at least.
        notes: what to know when reading the figures.
    """

    revision: str = ""
    data: str = ""
    baselines: dict[str, Figures] = {}
    advantage: dict[str, Advantage] = {}
    by_source: dict[str, Figures] = {}
    unseen_domains: Figures | None = None
    unseen_names: list[str] = []
    unseen_in_training: Figures | None = None
    curve: list[tuple[float, float]] = []
    reliability: list[tuple[float, float, int]] = []
    ece_by_chance: tuple[float, float] | None = None
    escalation: Escalation | None = None
    notes: list[str] = []


@dataclass(frozen=True)
class Setting:
    """What an evaluation is told beside the rows.

    ``seen`` are the domains of training, ``None`` where unknown; ``train`` its rows, where at hand;
    ``unseen`` what it found for domains left out.
    """

    revision: str = ""
    train: Dataset | None = None
    seen: Collection[str] | None = None
    unseen: Row | None = None
    tolerated: float = 0.1
    resampling: Resampling = field(default_factory=Resampling)


def report(found: Predictions, data: Dataset, setting: Setting) -> Report:
    """Measure predictions on completely labeled rows. Raises DatasetError where an outcome is unknown."""
    resampling = setting.resampling
    overall = _classifier(found, data, resampling)
    others = baselines.scores(data, setting.train)
    unseen = _unseen(data, setting.seen)
    share, right = metrics.quality(found.gain, data.weak, data.strong)
    grid = np.linspace(0, 1, min(_POINTS, len(data.rows) + 1))
    return Report(
        **msgspec.structs.asdict(overall),
        revision=setting.revision,
        data=data.name,
        baselines={name: _routed(score, data, resampling) for name, score in others.items()} | _ends(data),
        advantage=_advantage(found.gain, others, data, resampling),
        by_source={
            name: _classifier(found.where(rows), data.where(rows), resampling)
            for name, rows in evaluation.by_source(data).items()
        },
        unseen_domains=_classifier(found.where(unseen), data.where(unseen), resampling)
        if unseen.any()
        else None,
        unseen_names=sorted(set(data.subjects[unseen].tolist())),
        unseen_in_training=figures(setting.unseen, {}) if setting.unseen else None,
        curve=[(float(x), float(np.interp(x, share, right))) for x in grid],
        reliability=metrics.reliability(found.complexity, ~data.weak),
        ece_by_chance=metrics.ece_by_chance(found.complexity),
        escalation=_escalation(found.complexity, ~data.weak, setting.tolerated),
        notes=[*data.notes, *_notes(data, setting, unseen)],
    )


def _classifier(found: Predictions, data: Dataset, resampling: Resampling) -> Figures:
    row = evaluation.measure(found, data)
    wrong = ~data.weak
    statistics = _routing_statistics(found.gain, data) | {
        "ece": bootstrap.ece(found.complexity, wrong),
        "brier": bootstrap.mean((found.complexity - wrong) ** 2),
        "weak_accuracy": bootstrap.mean(data.weak),
        "strong_accuracy": bootstrap.mean(data.strong),
    }
    centers = {"ece": row["ece"]} if "ece" in row else {}
    return figures(row, resampling.intervals(statistics, len(data.rows), centers))


def _routed(score: Floats, data: Dataset, resampling: Resampling) -> Figures:
    intervals = resampling.intervals(_routing_statistics(score, data), len(data.rows))
    return figures(evaluation.routing(score, data), intervals)


def _routing_statistics(score: Floats, data: Dataset) -> dict[str, Statistic]:
    if not evaluation.has_gap(data):
        return {}
    weak, strong = data.weak, data.strong
    return {
        "apgr": bootstrap.apgr(score, weak, strong),
        "cpt50": bootstrap.cpt(score, weak, strong, 0.5),
        "cpt80": bootstrap.cpt(score, weak, strong, 0.8),
    }


def figures(row: Row, intervals: dict[str, Interval]) -> Figures:
    """Return the row with its intervals; figures that it lacks are ``None``."""
    return msgspec.convert(row | {"rows": int(row["rows"]), "intervals": intervals}, Figures)


def _ends(data: Dataset) -> dict[str, Figures]:
    """Return the routers that always choose the same model, which have an accuracy but no order."""
    rows, weak, strong = len(data.rows), float(data.weak.mean()), float(data.strong.mean())
    return {
        baselines.CHEAP: Figures(rows, weak_accuracy=weak),
        baselines.DEAR: Figures(rows, strong_accuracy=strong),
    }


def _advantage(
    score: Floats, others: dict[str, Floats], data: Dataset, resampling: Resampling
) -> dict[str, Advantage]:
    if not evaluation.has_gap(data):
        return {}
    weak, strong, rows = data.weak, data.strong, len(data.rows)
    ours = bootstrap.apgr(score, weak, strong)
    statistics = {
        name: bootstrap.difference(ours, bootstrap.apgr(other, weak, strong))
        for name, other in others.items()
    }
    intervals = resampling.intervals(statistics, rows)
    mine = metrics.apgr(score, weak, strong)
    return {
        name: Advantage(mine - metrics.apgr(other, weak, strong), intervals.get(name))
        for name, other in others.items()
    }


def _unseen(data: Dataset, seen: Collection[str] | None) -> Bools:
    return np.array([seen is not None and name not in seen for name in data.subjects.tolist()], bool)


def _escalation(complexity: Floats, wrong: Bools, tolerated: float) -> Escalation:
    least = metrics.least_escalated(float(wrong.mean()), tolerated)
    return Escalation(tolerated, least, metrics.escalated(complexity, wrong, tolerated))


def _notes(data: Dataset, setting: Setting, unseen: Bools) -> list[str]:
    notes = []
    if not evaluation.has_gap(data):
        notes.append(UNMEASURED)
    if setting.train is None:
        notes.append(f"{baselines.DOMAIN} is cross-fitted on {data.name}; --train FILE says what was known")
    if setting.seen is None:
        notes.append("the domains of training are unknown, so that no row is known to be of an unseen one")
    elif not unseen.any():
        notes.append(f"every domain of {data.name} was trained on: these figures say nothing of unseen ones")
    return notes
