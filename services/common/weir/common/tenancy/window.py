"""A sliding window: how much was used in the last minute."""

from __future__ import annotations

import math

PERIOD_S = 60.0


class SlidingWindow:
    """Sums amounts over the last 60 s in slots of one second.

    A slot counts until all of it is past, so in no 60 s is more taken than ``limit`` allows; what was taken
    comes back up to a second late.
    """

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self._slots: dict[int, float] = {}
        self._used = 0.0

    def used(self, now: float) -> float:
        """Return what counts at ``now`` (s, on a clock that never goes back)."""
        self._expire(now)
        return self._used

    def wait(self, now: float, amount: float) -> float:
        """Return the seconds until ``amount`` fits: 0 where it does now, infinite where it never will."""
        self._expire(now)
        excess = self._used + amount - self.limit
        if excess <= 0:
            return 0.0
        for slot, held in self._slots.items():
            excess -= held
            if excess <= 0:
                return slot + 1 + PERIOD_S - now
        return math.inf

    def take(self, now: float, amount: float) -> None:
        """Count ``amount`` now, also where it does not fit."""
        self._expire(now)
        slot = math.floor(now)
        self._slots[slot] = self._slots.get(slot, 0.0) + amount
        self._used += amount

    def give_back(self, now: float, taken_at: float, amount: float) -> None:
        """Take back what was counted at ``taken_at`` and not used, where that still counts."""
        self._expire(now)
        slot = math.floor(taken_at)
        if slot in self._slots:
            self._slots[slot] -= amount
            self._used -= amount

    def _expire(self, now: float) -> None:
        while self._slots:
            oldest = next(iter(self._slots))
            if oldest + 1 + PERIOD_S > now:
                return
            self._used -= self._slots.pop(oldest)
