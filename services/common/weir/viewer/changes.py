"""Tells page visitors that something changed, at a bounded rate."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

MIN_INTERVAL_S = 0.25
HEARTBEAT_S = 15.0


class Changes:
    """A counter that many tasks can await. ``note`` may be called from any thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._count = 0
        self._changed = asyncio.Event()

    def note(self) -> None:
        """Record a change."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._advance)

    def _advance(self) -> None:
        self._count += 1
        # Each waiter holds the event it saw, so a fresh one separates this change from the next.
        waiting, self._changed = self._changed, asyncio.Event()
        waiting.set()

    async def watch(self) -> AsyncGenerator[int | None]:
        """Yield the count now and after each change, at most four times a second; ``None`` as a heartbeat."""
        seen = -1
        while True:
            changed = self._changed
            if seen == self._count:
                try:
                    await asyncio.wait_for(changed.wait(), HEARTBEAT_S)
                except TimeoutError:
                    yield None
                    continue
            seen = self._count
            yield seen
            await asyncio.sleep(MIN_INTERVAL_S)
