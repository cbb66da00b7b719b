"""What a scenario would have decided: the router's own choice over the recorded cases, as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from weir.router.control.choice import chosen
from weir.router.domain import Tier
from weir.router.replay.scenario import Scenario
from weir.router.replay.trace import Episode

TIERS = tuple(Tier)
# In an array of tiers: no tier may answer.
NOBODY = -1
Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int8]


@dataclass(frozen=True, slots=True)
class Choices:
    """One entry per episode: the tier's index in ``TIERS``, USD, expected share of right answers.

    ``first_token_s`` is what is expected of the chosen tier, NaN where nothing is known; it serves where the
    trace has no measurements of that tier.
    """

    tiers: Codes
    cost_usd: Floats
    quality: Floats
    first_token_s: Floats
    total_s: Floats

    def shares(self) -> dict[str, float]:
        """Share of the episodes by tier, and of those that nobody may answer."""
        count = max(len(self.tiers), 1)
        shares = {
            tier.value: float(np.count_nonzero(self.tiers == i)) / count for i, tier in enumerate(TIERS)
        }
        nobody = float(np.count_nonzero(self.tiers == NOBODY)) / count
        return {**shares, "none": nobody} if nobody else shares


def recorded(episodes: Sequence[Episode]) -> Choices:
    """Return what was decided and spent."""
    return _choices(episodes, [episode.tier for episode in episodes])


def replayed(episodes: Sequence[Episode], scenario: Scenario) -> Choices:
    """Return what the scenario decides; quality is the recorded classifier's opinion throughout."""
    cases = scenario.cases or [episode.case for episode in episodes]
    pairs = zip(cases, episodes, strict=True)
    return _choices(episodes, [chosen(case, scenario.change(episode.bounds)) for case, episode in pairs])


def _choices(episodes: Sequence[Episode], tiers: Sequence[Tier | None]) -> Choices:
    costs, quality, first, total = [], [], [], []
    for episode, tier in zip(episodes, tiers, strict=True):
        estimate = episode.case.estimates.get(tier) if tier else None
        costs.append(cost_usd(episode, tier))
        quality.append(estimate.quality if estimate else 0.0)
        first.append(_or_nan(estimate.first_token_s if estimate else None))
        total.append(_or_nan(estimate.total_s if estimate else None))
    codes = [TIERS.index(tier) if tier else NOBODY for tier in tiers]
    return Choices(
        np.array(codes, np.int8), np.array(costs), np.array(quality), np.array(first), np.array(total)
    )


def cost_usd(episode: Episode, tier: Tier | None) -> float:
    """Return what a tier's answer costs: measured where it is the same tier, else what it would have.

    The frontier's price of an answer as long as the given one was recorded with it; other tiers are taken at
    the estimate that the router itself worked with.
    """
    if tier is None:
        return 0.0
    outcome = episode.outcome
    if outcome is not None and tier is episode.tier:
        return outcome.cost_usd
    if outcome is not None and tier is Tier.FRONTIER and outcome.frontier_cost_usd > 0:
        return outcome.frontier_cost_usd
    estimate = episode.case.estimates.get(tier)
    return estimate.cost_usd if estimate else 0.0


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value
