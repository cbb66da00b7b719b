"""Scenarios beside what was recorded: shares, cost, latency, quality and labels with bootstrap intervals."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import msgspec
import numpy as np

from weir.router.replay import labels
from weir.router.replay.decisions import NOBODY, TIERS, Choices, Floats, recorded, replayed
from weir.router.replay.latency import Measured, Mixture, measured
from weir.router.replay.scenario import Scenario
from weir.router.replay.trace import Episode

RESAMPLES = 300
# Past so many episodes the intervals are narrow anyway, and fewer resamples do.
LARGE = 50_000
RESAMPLES_IF_LARGE = 100
SEED = 20_260_101
# Bounds of the intervals: 95 %.
_ENDS = (2.5, 97.5)
_EXAMPLES = 3
_QUANTILES = (0.5, 0.95)


class Value(msgspec.Struct, frozen=True):
    """An estimate with its 95 % bootstrap interval; ``None`` where nothing is known."""

    value: float | None
    low: float | None = None
    high: float | None = None


class Labeled(msgspec.Struct, frozen=True):
    """What feedback says: the mean label, or why it says nothing."""

    mean: Value
    effective_sample: float
    without_overlap: float
    refusal: str = ""


class Change(msgspec.Struct, frozen=True):
    """Decisions that go elsewhere, with the ids of some."""

    source: str
    target: str
    count: int
    examples: list[str]


class Row(msgspec.Struct, frozen=True):
    """One scenario. USD per query; seconds; quality and labels from 0 to 1.

    ``saved_usd`` is per query against what was recorded, paired, so that its interval is narrower than those
    of the two costs. ``unknown_latency`` counts decisions without any time to go by.
    """

    name: str
    shares: dict[str, float]
    cost_usd: Value
    saved_usd: Value
    first_token_p50_s: Value
    first_token_p95_s: Value
    total_p50_s: Value
    total_p95_s: Value
    quality: Value
    labels: Labeled
    changed: int
    changes: list[Change]
    unknown_latency: int
    note: str = ""


class _Compared:
    """One scenario while its bootstrap runs."""

    def __init__(
        self, scenario: Scenario | None, episodes: Sequence[Episode], actual: Choices, times: Measured
    ) -> None:
        self.choices = replayed(episodes, scenario) if scenario else actual
        self.first = Mixture(times.first_token_s, actual.tiers, self.choices, self.choices.first_token_s)
        self.total = Mixture(times.total_s, actual.tiers, self.choices, self.choices.total_s)
        self._saved = actual.cost_usd - self.choices.cost_usd
        self._actual = actual

    def said(self, known: labels.Propensities, weights: Floats) -> labels.LabelEstimate:
        """Return what feedback says; what was decided needs no propensities."""
        if self.choices is self._actual:
            return labels.as_given(known, weights)
        return labels.estimate(known, self._actual.tiers, self.choices, weights)

    def figures(self, weights: Floats, known: labels.Propensities) -> list[float]:
        """Return cost, saving, four quantiles, quality and label; episode i counts ``weights[i]`` times."""
        said = self.said(known, weights)
        return [
            _mean(self.choices.cost_usd, weights),
            _mean(self._saved, weights),
            *self.first.quantiles(_QUANTILES, weights),
            *self.total.quantiles(_QUANTILES, weights),
            _mean(self.choices.quality, weights),
            math.nan if said.value is None else said.value,
        ]


def compare(
    episodes: Sequence[Episode], scenarios: Sequence[Scenario], resamples: int | None = None
) -> list[Row]:
    """Replay the scenarios; the first row is what was recorded.

    The bootstrap (Efron 1979, percentile intervals) resamples episodes, the same for all scenarios. Requests
    of one burst resemble each other, so the intervals are rather too narrow than too wide.
    """
    if resamples is None:
        resamples = RESAMPLES if len(episodes) < LARGE else RESAMPLES_IF_LARGE
    actual, times, known = recorded(episodes), measured(episodes), labels.propensities(episodes)
    compared = [_Compared(scenario, episodes, actual, times) for scenario in (None, *scenarios)]
    even = np.ones(len(episodes))
    points = [each.figures(even, known) for each in compared]
    samples = [
        [each.figures(weights, known) for each in compared] for weights in _weights(len(episodes), resamples)
    ]
    spread = np.array(samples).reshape(len(samples), len(compared), -1)
    rows = []
    for index, (each, scenario) in enumerate(zip(compared, (None, *scenarios), strict=True)):
        values = [_value(point, spread[:, index, i]) for i, point in enumerate(points[index])]
        cost, saved, first_p50, first_p95, total_p50, total_p95, quality, label = values
        said = each.said(known, even)
        changes = _changes(episodes, actual, each.choices)
        rows.append(
            Row(
                name=scenario.name if scenario else "as recorded",
                shares=each.choices.shares(),
                cost_usd=cost,
                saved_usd=saved,
                first_token_p50_s=first_p50,
                first_token_p95_s=first_p95,
                total_p50_s=total_p50,
                total_p95_s=total_p95,
                quality=quality,
                labels=Labeled(label, said.effective, said.uncovered, said.refusal),
                changed=sum(change.count for change in changes),
                changes=changes,
                unknown_latency=each.first.unknown,
                note=scenario.note if scenario else "",
            )
        )
    return rows


def _mean(values: Floats, weights: Floats) -> float:
    # Not a dot product: BLAS would wake its threads for each of some thousand short vectors.
    return float((values * weights).sum() / weights.sum())


def _weights(count: int, resamples: int) -> Iterator[Floats]:
    draw = np.random.default_rng(SEED)
    even = np.full(count, 1 / count)
    for _ in range(resamples):
        yield draw.multinomial(count, even).astype(np.float64)


def _value(point: float, samples: Floats) -> Value:
    if not math.isfinite(point):
        return Value(None)
    finite = samples[np.isfinite(samples)]
    # An estimate that most resamples refuse has no interval.
    if len(finite) < len(samples) / 2 or not len(finite):
        return Value(point)
    low, high = np.percentile(finite, _ENDS)
    return Value(point, float(low), float(high))


def _changes(episodes: Sequence[Episode], actual: Choices, choices: Choices) -> list[Change]:
    """Return the moves between tiers, the most frequent first; examples are the first of each."""
    names = {index: tier.value for index, tier in enumerate(TIERS)} | {NOBODY: "none"}
    moved: dict[tuple[str, str], list[int]] = {}
    for index in np.flatnonzero(actual.tiers != choices.tiers):
        move = names[int(actual.tiers[index])], names[int(choices.tiers[index])]
        moved.setdefault(move, []).append(int(index))
    ranked = sorted(moved.items(), key=lambda item: -len(item[1]))
    return [
        Change(*move, len(found), [episodes[i].decision_id for i in found[:_EXAMPLES]])
        for move, found in ranked
    ]
