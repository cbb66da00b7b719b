"""Gathers the answers at work before a pass, so that they share it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

# A pass's weight in the running mean of what passes take.
_WEIGHT = 0.2


class Muster:
    """Holds answers that are ready for a pass until all at work are, at most for as long as a pass takes.

    A pass over many answers' drafts takes little longer than over one's, and while it runs the drafter rests,
    which matters where both share processors: answers out of step verify one by one, each slowed by the
    others' drafts. One answer never waits.
    """

    def __init__(self) -> None:
        self._present = self._ready = 0
        self._gate = asyncio.Event()
        self._pass_s = 0.0

    @contextmanager
    def present(self) -> Iterator[None]:
        """Count an answer among those to wait for."""
        self._present += 1
        try:
            yield
        finally:
            self._present -= 1
            self._open_if_all()

    async def ready(self) -> None:
        """Wait until all are ready, or for as long as a pass takes; then all that wait go together."""
        self._ready += 1
        gate = self._gate
        self._open_if_all()
        try:
            async with asyncio.timeout(self._pass_s):
                await gate.wait()
        except TimeoutError:
            if gate is self._gate:
                self._open()
        except asyncio.CancelledError:
            if gate is self._gate:
                self._ready -= 1
            raise

    def took(self, seconds: float) -> None:
        """Take what a pass took."""
        self._pass_s += _WEIGHT * (seconds - self._pass_s) if self._pass_s else seconds

    def _open_if_all(self) -> None:
        if self._ready and self._ready >= self._present:
            self._open()

    def _open(self) -> None:
        self._gate.set()
        self._gate, self._ready = asyncio.Event(), 0
