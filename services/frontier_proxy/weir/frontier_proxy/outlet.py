"""Text on its way from the task that reads it to the client: bounded, and merged into fewer messages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress

# So many pieces go out together at once, fewer after a wait: eight in one message cost about as much as two.
MERGED = 8
MERGE_WAIT_S = 0.03
# A reader this far behind stops the writer. It is far, since what waits unread in a connection is lost, and
# not billed, when that breaks; and a provider goes on writing in any case.
HELD = 1024


class Outlet:
    """One writer's pieces of text, for one reader: the first at once, then by number or time."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._closed = self._discarding = False
        self._arrived, self._enough, self._room = asyncio.Event(), asyncio.Event(), asyncio.Event()

    def put(self, text: str) -> bool:
        """Take a piece; returns whether another may follow at once, or ``room`` is to be waited for."""
        if self._discarding:
            return True
        self._pieces.append(text)
        self._arrived.set()
        if len(self._pieces) >= MERGED:
            self._enough.set()
        if len(self._pieces) < HELD:
            return True
        self._room.clear()
        return False

    async def room(self) -> None:
        """Wait until pieces have been taken."""
        await self._room.wait()

    def flush(self) -> None:
        """Let what is held go out without a wait."""
        self._enough.set()

    def discard(self) -> None:
        """Forget what comes from now on; a writer that waits goes on."""
        self._discarding = True
        self._room.set()

    def close(self) -> None:
        """Say that nothing follows."""
        self._closed = True
        self._arrived.set()
        self._enough.set()

    async def texts(self) -> AsyncGenerator[str, None]:
        """Yield what was put, in order, until it is closed."""
        first = True
        while True:
            await self._arrived.wait()
            if not first:
                with suppress(TimeoutError):
                    async with asyncio.timeout(MERGE_WAIT_S):
                        await self._enough.wait()
            if pieces := self._take():
                first = False
                yield "".join(pieces)
            elif self._closed:
                return

    def _take(self) -> list[str]:
        pieces, self._pieces = self._pieces, []
        if not self._closed:
            self._arrived.clear()
            self._enough.clear()
        self._room.set()
        return pieces
