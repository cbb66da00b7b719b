"""Circuit breaker: a model whose provider keeps failing is passed over for a while."""

from __future__ import annotations

import time
from collections.abc import Callable

from weir.common.errors import ErrorCode

THRESHOLD = 5
COOLDOWN_S = 15.0


class Breaker:
    """Opens after ``THRESHOLD`` failures in a row, or for as long as a provider asks to be left alone.

    Once the time is over one more failure opens it again; one success closes it.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures = 0
        self._open_until = 0.0
        # What the provider said last when it failed.
        self.reason = ErrorCode.PROVIDER_FAILED

    def open_for(self) -> float:
        """Return the seconds for which it stays open; 0 where it is closed."""
        return max(0.0, self._open_until - self._clock())

    def succeeded(self) -> None:
        """Count a success."""
        self._failures = 0

    def failed(self, reason: ErrorCode) -> None:
        """Count a failure."""
        self.reason = reason
        self._failures += 1
        if self._failures >= THRESHOLD:
            self._open_until = self._clock() + COOLDOWN_S

    def rest(self, seconds: float) -> None:
        """Stay open for so long, at most a minute: the provider limits the rate and named the time."""
        self.reason = ErrorCode.RATE_LIMITED
        self._open_until = max(self._open_until, self._clock() + min(seconds, 60.0))
