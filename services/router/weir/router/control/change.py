"""Where a tier's latest regime begins: one that slowed down or got dearer is not judged by what it was."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

# Fewer samples than this make no regime.
SHORTEST = 16
# Chance of a change where there is none, per split looked at.
FALSE_ALARM = 1e-5
_BOUND = math.sqrt(math.log(2 / FALSE_ALARM) / 2)


def latest_regime(values: npt.NDArray[np.float64]) -> int:
    """Return the index from which the values, oldest first, follow one law; infinity counts as a failure.

    The two sides of splits at 16, 32, 64, ... samples before the end are compared by the two-sample
    Kolmogorov-Smirnov distance (windows: Kifer, Ben-David and Gehrke, VLDB 2004; exponentially spaced splits:
    ADWIN, Bifet and Gavalda, SDM 2007). The most distinct split past the bound wins.
    """
    found, strongest = 0, _BOUND
    recent = SHORTEST
    while len(values) - recent >= SHORTEST:
        older = len(values) - recent
        strength = _distance(values[:older], values[older:]) * math.sqrt(older * recent / len(values))
        if strength > strongest:
            found, strongest = older, strength
        recent *= 2
    return found


def _distance(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> float:
    one, other = np.sort(one), np.sort(other)
    points = np.concatenate([one, other])
    below = np.searchsorted(one, points, side="right") / len(one)
    return float(np.max(np.abs(below - np.searchsorted(other, points, side="right") / len(other))))
