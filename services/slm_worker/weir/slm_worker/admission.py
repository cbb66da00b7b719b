"""Admission: so many requests run, so many wait their turn, the rest are told when to come back."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from weir.common.errors import ErrorCode, WeirError

# Weight of the newest service time in the running mean that RetryInfo is computed from.
EMA_WEIGHT = 0.1


class Admission:
    """A first-come, first-served bounded queue before the engine.

    Args:
        max_running: requests in the engine at once.
        max_waiting: requests that may wait for a place; past it QUEUE_FULL.
    """

    def __init__(self, max_running: int, max_waiting: int) -> None:
        self.capacity = max_running
        self.running = 0
        self.on_change: Callable[[], None] = lambda: None
        self._max_waiting = max_waiting
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._service_s = 1.0

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._waiters)

    @asynccontextmanager
    async def place(self) -> AsyncIterator[float]:
        """Wait for a place and hold it; yields the seconds waited.

        Raises:
            WeirError: QUEUE_FULL, with the time after which a place is expected.
        """
        arrived = time.perf_counter()
        await self._enter()
        entered = time.perf_counter()
        try:
            yield entered - arrived
        finally:
            took = time.perf_counter() - entered
            self._service_s += EMA_WEIGHT * (took - self._service_s)
            self._leave()

    async def _enter(self) -> None:
        if self.running < self.capacity and not self._waiters:
            self.running += 1
            self.on_change()
            return
        if len(self._waiters) >= self._max_waiting:
            raise WeirError(
                ErrorCode.QUEUE_FULL,
                f"{self.running} requests run and {self.waiting} wait already.",
                retry_after_s=self._expected_wait_s(),
            )
        turn = asyncio.get_running_loop().create_future()
        self._waiters.append(turn)
        self.on_change()
        try:
            await turn
        except asyncio.CancelledError:
            # The turn may have come in the same moment: pass it on.
            if turn.done() and not turn.cancelled():
                self._leave()
            else:
                self._waiters.remove(turn)
                self.on_change()
            raise

    def _leave(self) -> None:
        while self._waiters:
            turn = self._waiters.popleft()
            if not turn.done():
                turn.set_result(None)
                self.on_change()
                return
        self.running -= 1
        self.on_change()

    def _expected_wait_s(self) -> float:
        """Little's law: those ahead, over the rate at which places come free."""
        return max(0.05, (self.waiting + 1) * self._service_s / self.capacity)
