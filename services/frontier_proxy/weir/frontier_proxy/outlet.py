"""Text on its way from the task that reads it to the client: bounded, and merged into fewer messages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

# So many pieces go out together at once, fewer after a wait: eight in one message cost about as much as two.
MERGED = 8
MERGE_WAIT_S = 0.03
# A reader this far behind stops the writer. It is far, since what waits unread in a connection is lost, and
# not billed, when that breaks; and a provider goes on writing in any case.
HELD = 1024


class Outlet:
    """One writer's pieces of text, for one reader: the first at once, then by number or time.

    It belongs to the event loop that it is made in.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._pieces: list[str] = []
        self._failure: Exception | None = None
        self._closed = self._discarding = self._due = False
        self._merges_from = 1
        self._timer: asyncio.TimerHandle | None = None
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None

    def put(self, text: str) -> bool:
        """Take a piece; returns whether another may follow at once, or ``room`` is to be waited for."""
        if self._discarding:
            return True
        self._pieces.append(text)
        if len(self._pieces) >= self._merges_from:
            self.flush()
        elif self._timer is None:
            self._timer = self._loop.call_later(MERGE_WAIT_S, self.flush)
        return len(self._pieces) < HELD

    async def room(self) -> None:
        """Wait until pieces have been taken."""
        if len(self._pieces) >= HELD and not self._discarding:
            self._writer = self._loop.create_future()
            await self._writer

    def flush(self) -> None:
        """Let what is held go out without a wait."""
        if self._pieces or self._closed:
            self._due = True
            _wake(self._reader)

    def discard(self) -> None:
        """Forget what comes from now on; a writer that waits goes on."""
        self._discarding = True
        _wake(self._writer)

    def close(self, failure: Exception | None = None) -> None:
        """Say that nothing follows, and what the reader is to see raised behind the text."""
        self._closed, self._failure = True, failure
        self.flush()

    async def texts(self) -> AsyncGenerator[str, None]:
        """Yield what was put, in order, until it is closed. Raises what it was closed with."""
        while True:
            while not self._due:
                self._reader = self._loop.create_future()
                await self._reader
            if pieces := self._take():
                yield "".join(pieces)
            elif self._closed:
                break
        if self._failure:
            raise self._failure

    def _take(self) -> list[str]:
        pieces, self._pieces = self._pieces, []
        self._due = self._closed
        if pieces:
            self._merges_from = MERGED
        if self._timer:
            self._timer.cancel()
            self._timer = None
        _wake(self._writer)
        return pieces


def _wake(waiting: asyncio.Future[None] | None) -> None:
    if waiting and not waiting.done():
        waiting.set_result(None)
