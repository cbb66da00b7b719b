"""Hedges: when a second model is asked while the first is silent, and how much that may cost."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from weir.common.config.frontier import Hedging
from weir.frontier_proxy.latency import FirstTextTimes

SPAN_S = 3600.0
_SLICE_S = 60.0


@dataclass(slots=True)
class _Slice:
    number: int
    nano: int = 0
    hedged_nano: int = 0


class Hedges:
    """Sends a hedge where a first text takes longer than most, as long as hedges cost little in all.

    After J. Dean and L. A. Barroso, "The Tail at Scale", CACM 56(2), 2013. What the losers of races cost, and
    what those under way may cost, stays within ``max_spend_share`` of what everything cost in the last hour.

    Args:
        config: the quantile, the bounds of the delay, and the share.
        clock: monotonic seconds.
    """

    def __init__(self, config: Hedging, clock: Callable[[], float] = time.monotonic) -> None:
        self._config, self._clock = config, clock
        self._slices: deque[_Slice] = deque()
        self._nano = self._hedged_nano = self._staked_nano = 0

    def delay(self, times: FirstTextTimes) -> float | None:
        """Return after how many seconds without text a hedge is due; ``None``: none is sent."""
        usual = times.quantile(self._config.quantile) if self._config.enabled else None
        if usual is None:
            return None
        return min(max(usual, self._config.min_delay_s), self._config.max_delay_s)

    def admit(self, bound_nano: int) -> Stake | None:
        """Set aside what a hedge may add; ``None`` where that could pass the cap."""
        self._evict()
        hedged = self._hedged_nano + self._staked_nano + bound_nano
        if hedged > self._config.max_spend_share * self._nano:
            return None
        self._staked_nano += bound_nano
        return Stake(self, bound_nano)

    def spent(self, nano: int) -> None:
        """Count what an attempt cost, whichever it was."""
        self._count(nano, 0)

    def added(self, bound_nano: int, nano: int) -> None:
        """Count what a race's loser cost; only a stake says so."""
        self._staked_nano -= bound_nano
        self._count(0, nano)

    def _count(self, nano: int, hedged_nano: int) -> None:
        number = self._evict()
        if not self._slices or self._slices[-1].number != number:
            self._slices.append(_Slice(number))
        self._slices[-1].nano += nano
        self._slices[-1].hedged_nano += hedged_nano
        self._nano += nano
        self._hedged_nano += hedged_nano

    def _evict(self) -> int:
        number = int(self._clock() // _SLICE_S)
        while self._slices and self._slices[0].number <= number - SPAN_S / _SLICE_S:
            old = self._slices.popleft()
            self._nano -= old.nano
            self._hedged_nano -= old.hedged_nano
        return number


class Stake:
    """What one hedge may add to the spending, set aside until its race is paid for."""

    def __init__(self, hedges: Hedges, bound_nano: int) -> None:
        self._hedges, self._bound_nano = hedges, bound_nano
        self._paid = False

    def paid(self, nano: int) -> None:
        """Tell what the race's loser cost; only the first word counts."""
        if not self._paid:
            self._paid = True
            self._hedges.added(self._bound_nano, nano)
