"""What feedback says of a scenario, and where it cannot say anything.

Self-normalized inverse-propensity scoring (Swaminathan and Joachims, NeurIPS 2015). The router decides
without chance, so the propensities come from the bounds that were in force at different times (the controller
moves them, people change them): with several logging policies the balanced weights divide by the average over
all of them (Agarwal et al., KDD 2017, "Effective evaluation using logged bandit feedback from multiple
loggers"). A tier that no bounds in the trace would have chosen for a case has no overlap: labels say nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from weir.router.case import Bounds
from weir.router.control.choice import chosen
from weir.router.replay.decisions import NOBODY, TIERS, Choices, Codes, Floats
from weir.router.replay.trace import Episode

# Distinct bounds looked at; where there are more, those most often in force.
MAX_POLICIES = 32
# Shortest effective sample, and largest share of decisions without overlap, that an estimate is given for.
FEWEST_EFFECTIVE = 30.0
MOST_UNCOVERED = 0.05


@dataclass(frozen=True, slots=True)
class Propensities:
    """How often each tier would have been chosen for each labeled episode, float64 [labeled, tiers].

    ``index`` says which episodes are labeled. Bounds and cases are taken to be independent: who changes the
    bounds because the traffic changed breaks this.
    """

    index: Floats
    labels: Floats
    shares: Floats
    policies: int


@dataclass(frozen=True, slots=True)
class LabelEstimate:
    """Mean label under a scenario, or ``refusal``: why there is none. ``effective`` is Kish's sample size."""

    value: float | None
    effective: float
    uncovered: float
    refusal: str = ""


def propensities(episodes: Sequence[Episode]) -> Propensities:
    """Compute the propensities of the labeled episodes."""
    index = [i for i, episode in enumerate(episodes) if episode.label is not None]
    counted: Counter[Bounds] = Counter(episode.bounds for episode in episodes)
    policies = counted.most_common(MAX_POLICIES)
    whole = sum(count for _, count in policies)
    shares = np.zeros((len(index), len(TIERS)))
    for row, i in enumerate(index):
        for bounds, count in policies:
            if tier := chosen(episodes[i].case, bounds):
                shares[row, TIERS.index(tier)] += count / whole
    labels = np.array([episodes[i].label for i in index], np.float64)
    return Propensities(np.array(index, np.intp), labels, shares, len(counted))


def as_given(known: Propensities, weights: Floats) -> LabelEstimate:
    """Return the mean label under what was decided; episode i counts ``weights[i]`` times."""
    count = weights[known.index]
    if not count.sum():
        return LabelEstimate(None, 0.0, 0.0, "no labels")
    return LabelEstimate(float((count * known.labels).sum() / count.sum()), _effective(count), 0.0)


def estimate(known: Propensities, tiers: Codes, choices: Choices, weights: Floats) -> LabelEstimate:
    """Estimate the mean label under a scenario; episode i counts ``weights[i]`` times."""
    count = weights[known.index]
    if not count.sum():
        return LabelEstimate(None, 0.0, 1.0, "no labels")
    wanted, logged = choices.tiers[known.index], tiers[known.index]
    rows = np.arange(len(wanted))
    shares = np.where(wanted == NOBODY, 0.0, known.shares[rows, np.maximum(wanted, 0)])
    # A decision that stays needs no other policy to vouch for it, whatever moved since.
    shares = np.where((wanted == logged) & (shares == 0.0), 1.0, shares)
    uncovered = float(count[shares == 0.0].sum() / count.sum())
    matched = (wanted == logged) & (shares > 0)
    weight = np.where(matched, count / np.where(matched, shares, 1.0), 0.0)
    effective = _effective(weight)
    if uncovered > MOST_UNCOVERED:
        return LabelEstimate(None, effective, uncovered, f"no overlap: {uncovered:.0%}")
    if effective < FEWEST_EFFECTIVE:
        return LabelEstimate(None, effective, uncovered, f"too few: {effective:.0f}")
    return LabelEstimate(float((weight * known.labels).sum() / weight.sum()), effective, uncovered)


def _effective(weight: Floats) -> float:
    return float(weight.sum() ** 2 / (weight**2).sum()) if weight.any() else 0.0
