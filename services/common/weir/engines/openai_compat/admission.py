"""A bounded number of requests at a server, and a bounded number that wait here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from weir.common.errors import ErrorCode, WeirError


class Admission:
    """Lets ``max_running`` in, keeps ``max_waiting`` waiting in order, refuses the rest."""

    def __init__(self, max_running: int, max_waiting: int) -> None:
        self._places = asyncio.Semaphore(max_running)
        self._max_waiting = max_waiting
        self.running = 0
        self.waiting = 0

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Hold a place. Raises WeirError QUEUE_FULL."""
        if self._places.locked() and self.waiting >= self._max_waiting:
            raise WeirError(
                ErrorCode.QUEUE_FULL,
                f"{self.running} requests run and {self.waiting} wait; retry after the given delay.",
            )
        self.waiting += 1
        try:
            await self._places.acquire()
        finally:
            self.waiting -= 1
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1
            self._places.release()
