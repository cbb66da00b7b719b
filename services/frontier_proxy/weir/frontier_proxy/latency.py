"""How long a model's first texts take: the recent ones, for a running quantile."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import deque

LARGEST = 256


class FirstTextTimes:
    """The last ``size`` times to the first text, in seconds.

    Quantiles are exact over these (nearest rank); adding costs a binary search, asking nothing.

    Args:
        min_samples: below so many times there is no quantile.
        size: how many are kept; at least ``min_samples``.
    """

    def __init__(self, min_samples: int = 20, size: int = LARGEST) -> None:
        self._min_samples = min_samples
        self._recent: deque[float] = deque(maxlen=max(size, min_samples))
        self._ordered: list[float] = []

    def add(self, seconds: float) -> None:
        """Note a time.

        A call that was given up because a hedge answered first is noted with the time it had waited: its own
        would have been longer, and without it every hedge that wins would lower the quantile and with it the
        next hedge's delay.
        """
        if len(self._recent) == self._recent.maxlen:
            del self._ordered[bisect_left(self._ordered, self._recent[0])]
        self._recent.append(seconds)
        insort(self._ordered, seconds)

    def quantile(self, q: float) -> float | None:
        """Return the time that a share ``q`` (0 to 1) did not pass; ``None`` if too few are known."""
        if len(self._ordered) < self._min_samples:
            return None
        return self._ordered[max(0, math.ceil(q * len(self._ordered)) - 1)]
