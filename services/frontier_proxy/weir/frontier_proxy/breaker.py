"""Circuit breaker: a model whose provider fails or is slow too often is passed over for a while."""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import StrEnum

from weir.common.config.frontier import CircuitBreaker
from weir.common.errors import ErrorCode
from weir.frontier_proxy.window import SlidingWindow, Tally


class CircuitState(StrEnum):
    """Whether a model is asked."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Cause(StrEnum):
    """What opened a circuit."""

    FAILURE_SHARE = "failure_share"
    CONSECUTIVE_FAILURES = "consecutive_failures"
    SLOW_SHARE = "slow_share"
    PROBE_FAILED = "probe_failed"
    PROBE_SLOW = "probe_slow"
    RATE_LIMIT = "rate_limit"


# Told the cause and the seconds whenever a circuit opens, and ``None`` and 0 when it closes.
Listener = Callable[[Cause | None, float], None]


class Breaker:
    """The circuit of one model at one provider.

    From resilience4j (https://resilience4j.readme.io/docs/circuitbreaker): shares of failed and of slow calls
    over a sliding time window, which mean something from a least number of calls on; an open circuit becomes
    half-open by itself; what began before a change of state has no say after it. From Envoy's outlier
    detection: failures in a row open it at once, and open times grow up to a longest one
    (``consecutive_5xx``, ``base_ejection_time``, ``max_ejection_time``); here they double.

    Of its own: slowness counts when the first text comes or is given up, not when its stream ends. A wait
    that a provider names is kept without any verdict on its health. Half-open, one call at a time waits for
    its first text; after a good one the next may follow, so that answers of minutes keep no model away.

    Not thread-safe: it belongs to one event loop.

    Args:
        config: shares, times and numbers.
        clock: monotonic seconds.
        listener: hears of every opening and closing.
    """

    def __init__(
        self,
        config: CircuitBreaker,
        clock: Callable[[], float] = time.monotonic,
        listener: Listener = lambda cause, seconds: None,
    ) -> None:
        self.config, self.clock = config, clock
        self._tell = listener
        self._window = SlidingWindow(config.window_s, clock)
        self._in_a_row = 0
        self._tripped = False
        self._open_until = self._rest_until = 0.0
        self._failed_probes = self._good_probes = 0
        self._waiting: Permit | None = None
        # What a permit says counts only in the era in which it was given.
        self._era = 0
        self._reason = ErrorCode.PROVIDER_FAILED

    @property
    def state(self) -> CircuitState:
        """Whether the model is asked now."""
        if self.open_for():
            return CircuitState.OPEN
        return CircuitState.HALF_OPEN if self._tripped else CircuitState.CLOSED

    @property
    def reason(self) -> ErrorCode:
        """What the provider said last when it failed; PROVIDER_FAILED where it was slow."""
        return self._reason

    def open_for(self) -> float:
        """Return the seconds for which it stays open; 0 where it is closed or half-open."""
        return max(0.0, max(self._open_until, self._rest_until) - self.clock())

    def admit(self) -> Permit | None:
        """Allow one call; ``None`` while it is open, and half-open while another waits for its first text."""
        if self.open_for() or self._waiting:
            return None
        permit = Permit(self, self._era)
        if self._tripped:
            self._waiting = permit
        return permit

    def timed(self, permit: Permit, *, slow: bool) -> None:
        """Count a first text; only a permit says so."""
        if permit.era != self._era:
            return
        if self._tripped:
            self.freed(permit)
            if slow:
                self._trip(Cause.PROBE_SLOW, ErrorCode.PROVIDER_FAILED)
            return
        sums = self._window.count(Tally(timed=1, slow=slow))
        if slow and self._reached(sums.slow, sums.timed, self.config.slow_share):
            self._trip(Cause.SLOW_SHARE, ErrorCode.PROVIDER_FAILED)

    def ended(self, permit: Permit, failure: ErrorCode | None) -> None:
        """Count a call; only a permit says so."""
        if permit.era != self._era:
            return
        if self._tripped:
            self._probed(failure)
            return
        sums = self._window.count(Tally(calls=1, failed=failure is not None))
        self._in_a_row = 0 if failure is None else self._in_a_row + 1
        if failure is None:
            return
        if self._in_a_row >= self.config.consecutive_failures:
            self._trip(Cause.CONSECUTIVE_FAILURES, failure)
        elif self._reached(sums.failed, sums.calls, self.config.failure_share):
            self._trip(Cause.FAILURE_SHARE, failure)

    def pause(self, seconds: float) -> None:
        """Ask nothing for so long, at most ``longest_open_s``; only a permit says so."""
        open_already = self.open_for() > 0
        until = self.clock() + min(seconds, self.config.longest_open_s)
        self._rest_until = max(self._rest_until, until)
        self._reason = ErrorCode.RATE_LIMITED
        if not open_already:
            self._tell(Cause.RATE_LIMIT, self.open_for())

    def freed(self, permit: Permit) -> None:
        """Let another call probe where this one did; only a permit says so."""
        if permit is self._waiting:
            self._waiting = None

    def rekeyed(self) -> None:
        """Close it where a refused key had opened it, and another has taken that one's place."""
        if self._tripped and self._reason is ErrorCode.PROVIDER_AUTH:
            self._open_until = self.clock()
            self._failed_probes = 0
            self._close()

    def _probed(self, failure: ErrorCode | None) -> None:
        if failure is not None:
            self._trip(Cause.PROBE_FAILED, failure)
            return
        self._good_probes += 1
        if self._good_probes >= self.config.probes:
            self._close()

    def _reached(self, part: int, whole: int, share: float) -> bool:
        return whole >= self.config.min_calls and part >= share * whole

    def _trip(self, cause: Cause, reason: ErrorCode) -> None:
        self._failed_probes = self._failed_probes + 1 if self._tripped else 0
        # The exponent's bound only keeps the power finite.
        doubled = self.config.open_s * 2.0 ** min(self._failed_probes, 60)
        self._open_until = self.clock() + min(doubled, max(self.config.open_s, self.config.longest_open_s))
        self._tripped, self._reason = True, reason
        self._begin_era()
        self._tell(cause, self.open_for())

    def _close(self) -> None:
        self._tripped = False
        self._begin_era()
        self._tell(None, 0.0)

    def _begin_era(self) -> None:
        self._era += 1
        self._waiting, self._good_probes, self._in_a_row = None, 0, 0
        self._window.clear()


class Permit:
    """The right to one call. It ends once, with whatever says so first; later words are not heard."""

    def __init__(self, breaker: Breaker, era: int) -> None:
        self._breaker, self.era = breaker, era
        self._begun = breaker.clock()
        self._timed = self._over = False

    def first_text(self, seconds: float) -> None:
        """Tell after how many seconds the first text came."""
        limit = self._breaker.config.slow_first_token_s
        if not (self._timed or self._over):
            self._timed = True
            self._breaker.timed(self, slow=limit is not None and seconds > limit)

    def succeeded(self) -> None:
        """The answer came to its end, or the provider refused for reasons that lie in the request."""
        if self._end():
            self._breaker.ended(self, None)
            self._breaker.freed(self)

    def failed(self, code: ErrorCode) -> None:
        """The provider failed: before the first text or behind it."""
        if self._end():
            self._breaker.ended(self, code)
            self._breaker.freed(self)

    def rest(self, seconds: float) -> None:
        """The provider limits the rate and named a wait."""
        if self._end():
            self._breaker.pause(seconds)
            self._breaker.freed(self)

    def released(self) -> None:
        """The call was given up: nothing is said, but for a first text that was already slow to come."""
        limit = self._breaker.config.slow_first_token_s
        waited = self._breaker.clock() - self._begun
        if limit is not None and waited > limit:
            self.first_text(waited)
        if self._end():
            self._breaker.freed(self)

    def _end(self) -> bool:
        ends, self._over = not self._over, True
        return ends
