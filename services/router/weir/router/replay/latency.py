"""Times under a scenario: one's own where the tier stays, the measured ones of the tier where it changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from weir.router.replay.decisions import NOBODY, TIERS, Choices, Codes, Floats
from weir.router.replay.trace import Episode

# Fewer measurements than this make no distribution; the estimates recorded with the cases serve then.
FEWEST = 20


@dataclass(frozen=True, slots=True)
class Measured:
    """Seconds per episode, NaN without a clean measurement: the chosen tier's own, to the end."""

    first_token_s: Floats
    total_s: Floats


def measured(episodes: Sequence[Episode]) -> Measured:
    """Collect the measured times."""
    first = np.full(len(episodes), np.nan)
    total = np.full(len(episodes), np.nan)
    for index, episode in enumerate(episodes):
        if outcome := episode.finished:
            total[index] = outcome.total_s
            first[index] = np.nan if outcome.first_token_s is None else outcome.first_token_s
    return Measured(first, total)


class Mixture:
    """The distribution of one time under a scenario.

    An episode whose tier stays counts with its own time. One whose tier changes, or whose own time is
    unknown, counts as one drawn from the chosen tier's measurements: its weight is spread over them evenly.
    This takes times to be independent of the prompt within a tier, and of the tier's load, which a replay
    cannot know.
    """

    def __init__(self, times: Floats, tiers: Codes, choices: Choices, estimates: Floats) -> None:
        stays = choices.tiers == tiers
        self._own = stays & np.isfinite(times)
        self._pools = [np.flatnonzero((tiers == tier) & np.isfinite(times)) for tier in range(len(TIERS))]
        self._drawn = [np.flatnonzero(~self._own & (choices.tiers == tier)) for tier in range(len(TIERS))]
        self._estimates = estimates
        # First the measured times, then the estimates.
        self._values = np.concatenate([times, estimates])
        self._order = np.argsort(self._values, kind="stable")
        self.unknown = int(np.count_nonzero(choices.tiers == NOBODY)) + self._without_any()

    def quantiles(self, shares: Sequence[float], weights: Floats) -> list[float]:
        """Return quantiles where episode i counts ``weights[i]`` times; NaN where nothing is known."""
        spread = self._spread(weights)[self._order]
        reached = np.cumsum(spread)
        if not len(reached) or reached[-1] <= 0:
            return [float("nan")] * len(shares)
        places = np.searchsorted(reached, np.asarray(shares) * reached[-1] * (1 - 1e-12))
        return [float(value) for value in self._values[self._order[places]]]

    def _spread(self, weights: Floats) -> Floats:
        count = len(weights)
        spread = np.zeros(2 * count)
        spread[:count][self._own] = weights[self._own]
        for pool, drawn in zip(self._pools, self._drawn, strict=True):
            if len(pool) >= FEWEST:
                within = weights[pool].sum()
                share = weights[drawn].sum() / within if within else 0.0
                spread[pool] += share * weights[pool]
            else:
                known = drawn[np.isfinite(self._estimates[drawn])]
                spread[count + known] = weights[known]
        return spread

    def _without_any(self) -> int:
        return sum(
            int(np.count_nonzero(~np.isfinite(self._estimates[drawn])))
            for pool, drawn in zip(self._pools, self._drawn, strict=True)
            if len(pool) < FEWEST
        )
