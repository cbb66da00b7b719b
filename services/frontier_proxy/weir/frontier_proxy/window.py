"""Outcomes of the last seconds, counted in slices of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

SLICES = 10


@dataclass(slots=True)
class Tally:
    """Calls that ended and those of them that failed; first texts that were timed and the slow ones."""

    calls: int = 0
    failed: int = 0
    timed: int = 0
    slow: int = 0

    def add(self, other: Tally, sign: int = 1) -> None:
        """Add ``other``, or take it away where ``sign`` is -1."""
        self.calls += sign * other.calls
        self.failed += sign * other.failed
        self.timed += sign * other.timed
        self.slow += sign * other.slow


@dataclass(slots=True)
class _Slice:
    number: int
    tally: Tally = field(default_factory=Tally)


class SlidingWindow:
    """Sums over the last ``seconds``, in constant time and memory.

    Partial sums of a tenth of the window each leave the whole at once when they are too old: the time-based
    window of resilience4j (https://resilience4j.readme.io/docs/circuitbreaker, "subtract on evict").

    Args:
        seconds: the length; what is counted is between nine tenths of it and the whole.
        clock: monotonic seconds.
    """

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self._slice_s, self._clock = seconds / SLICES, clock
        self._slices: deque[_Slice] = deque()
        self._total = Tally()

    def count(self, tally: Tally) -> Tally:
        """Add what happened now and return the sums."""
        number = self._evict()
        if not self._slices or self._slices[-1].number != number:
            self._slices.append(_Slice(number))
        self._slices[-1].tally.add(tally)
        self._total.add(tally)
        return self._total

    def clear(self) -> None:
        """Forget everything."""
        self._slices.clear()
        self._total = Tally()

    def _evict(self) -> int:
        number = int(self._clock() // self._slice_s)
        while self._slices and self._slices[0].number <= number - SLICES:
            self._total.add(self._slices.popleft().tally, -1)
        return number
