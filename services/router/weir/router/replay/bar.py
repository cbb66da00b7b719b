"""The bar at which a cost or latency target is met: what the controller comes to in the long run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from weir.router.case import Case
from weir.router.replay.decisions import recorded, replayed
from weir.router.replay.latency import Mixture, measured
from weir.router.replay.scenario import Scenario, Target, at_bar
from weir.router.replay.trace import Episode

# Bars tried, from 1 to 0, halvings of the step that holds the answer, and episodes that they are tried on.
STEPS = 26
HALVINGS = 6
MOST_EPISODES = 2_000


@dataclass(frozen=True, slots=True)
class Bar:
    """The highest bar that keeps the target; ``met`` is whether any does, else the one that comes nearest.

    ``value`` is what ``Bounds.quality`` is set to: in these modes a dearer tier has to add 1 - ``value``.
    """

    value: float
    metric: float
    met: bool


def settle(target: Target, episodes: Sequence[Episode], cases: Sequence[Case] | None = None) -> Scenario:
    """Return the scenario that holds a target over a trace; for quality the bar is the target itself.

    ``cases`` replaces those that were recorded.
    """
    if target.kind == "quality":
        return replace(at_bar(target, target.value), cases=cases)
    step = -(-len(episodes) // MOST_EPISODES)
    sample, of_sample = episodes[::step], cases[::step] if cases else None
    bar = highest(lambda value: _metric(target, value, sample, of_sample), _limit(target))
    note = f"held where a dearer tier has to add {1 - bar.value:.3f} to the expected quality"
    if not bar.met:
        note = f"out of reach: the least is {_shown(target, bar.metric)}"
    return replace(at_bar(target, bar.value, note), cases=cases)


def highest(metric: Callable[[float], float], limit: float) -> Bar:
    """Search the bars for the highest whose metric keeps the limit, else for the least metric."""
    tried: list[tuple[float, float]] = []
    for bar in np.linspace(1.0, 0.0, STEPS):
        tried.append((float(bar), metric(float(bar))))
        if tried[-1][1] <= limit:
            return _refined(metric, limit, tried)
    known = [(bar, value) for bar, value in tried if value == value] or tried
    bar, value = min(known, key=lambda each: each[1])
    return Bar(bar, value, False)


def _refined(metric: Callable[[float], float], limit: float, tried: list[tuple[float, float]]) -> Bar:
    """Halve the step between the first bar that keeps the limit and the last that does not."""
    bar, value = tried[-1]
    above = tried[-2][0] if len(tried) > 1 else bar
    for _ in range(HALVINGS if above > bar else 0):
        middle = (above + bar) / 2
        at_middle = metric(middle)
        if at_middle <= limit:
            bar, value = middle, at_middle
        else:
            above = middle
    return Bar(bar, value, True)


def _limit(target: Target) -> float:
    return target.value / 1000 if target.kind == "latency" else target.value


def _shown(target: Target, metric: float) -> str:
    return f"{metric * 1000:.0f} ms" if target.kind == "latency" else f"${metric:.6f} per query"


def _metric(target: Target, bar: float, episodes: Sequence[Episode], cases: Sequence[Case] | None) -> float:
    choices = replayed(episodes, replace(at_bar(target, bar), cases=cases))
    if target.kind == "cost":
        return float(choices.cost_usd.mean())
    times = measured(episodes).first_token_s
    mixture = Mixture(times, recorded(episodes).tiers, choices, choices.first_token_s)
    return mixture.quantiles([0.95], np.ones(len(episodes)))[0]
