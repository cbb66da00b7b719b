"""A quantile sketch that can be merged: weights in logarithmic bins."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import numpy.typing as npt

ACCURACY = 0.01
# Shorter times are all the same here, seconds.
SHORTEST_S = 1e-4
_GAMMA = (1 + ACCURACY) / (1 - ACCURACY)
_LOG_GAMMA = math.log(_GAMMA)


class Sketch(msgspec.Struct):
    """Weighted times in bins that keep quantiles within 1 % (DDSketch, Masson et al., VLDB 2019, section 2).

    Weights that fade with age make its quantiles exponentially smoothed ones, as in weighted historical
    simulation (Boudoukh, Richardson and Whitelaw 1998). ``failed`` is the weight of what never came: slower
    than any bound.
    """

    bins: dict[int, float] = {}
    failed: float = 0.0

    @classmethod
    def of(cls, seconds: npt.NDArray[np.float64], weights: npt.NDArray[np.float64]) -> Sketch:
        """Return the sketch of weighted times; infinity is a failure."""
        came = np.isfinite(seconds)
        at = np.ceil(np.log(np.maximum(seconds[came], SHORTEST_S)) / _LOG_GAMMA).astype(np.int64)
        places, which = np.unique(at, return_inverse=True)
        sums = np.bincount(which, weights=weights[came], minlength=len(places))
        return cls(dict(zip(places.tolist(), sums.tolist(), strict=True)), float(weights[~came].sum()))

    def merge(self, other: Sketch) -> None:
        """Take another's weights in."""
        self.failed += other.failed
        for at, weight in other.bins.items():
            self.bins[at] = self.bins.get(at, 0.0) + weight

    @property
    def total(self) -> float:
        """All weights."""
        return sum(self.bins.values()) + self.failed

    def scaled(self, total: float) -> Sketch:
        """Return the same distribution with another total weight."""
        known = self.total
        if not known:
            return Sketch({}, 0.0)
        by = total / known
        return Sketch({at: weight * by for at, weight in self.bins.items()}, self.failed * by)

    def above(self, seconds: float) -> float:
        """Return the weight of the times past a bound, failures included."""
        return self.failed + sum(weight for at, weight in self.bins.items() if _middle(at) > seconds)

    def quantile(self, share: float) -> float | None:
        """Return the time within which ``share`` of the weight falls; infinity among failures."""
        left = share * self.total
        if not self.total:
            return None
        for at in sorted(self.bins):
            left -= self.bins[at]
            if left <= 1e-12:
                return _middle(at)
        return math.inf

    def mean(self) -> float | None:
        """Return the mean of what came."""
        weight = self.total - self.failed
        if not self.bins or weight <= 0:
            return None
        return sum(_middle(at) * weight for at, weight in self.bins.items()) / weight


def _middle(at: int) -> float:
    return float(2 * _GAMMA**at / (_GAMMA + 1))
