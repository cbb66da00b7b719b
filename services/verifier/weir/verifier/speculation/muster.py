"""Gathers the answers at work before a pass, so that they share it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

# A pass's weight in the running mean of what passes take.
_WEIGHT = 0.2


class Muster:
    """Holds answers that are ready for a pass until all that are awaited are.

    A pass over many answers' drafts takes little longer than over one's, and while it runs the drafter rests,
    which matters where both share processors: answers out of step verify one by one, each slowed by the
    others' drafts. One answer never waits. Whoever keeps the others waiting for longer than their patience is
    not awaited again until it comes, so that a stalled answer costs the others one wait and no more.
    """

    def __init__(self) -> None:
        self._awaited: set[Place] = set()
        self._ready: set[Place] = set()
        self._gate = asyncio.Event()
        self._pass_s = 0.0

    @contextmanager
    def place(self) -> Iterator[Place]:
        """Count an answer among those to wait for; through its place it says when it is ready."""
        place = Place(self)
        self._awaited.add(place)
        try:
            yield place
        finally:
            self._awaited.discard(place)
            self._open_if_all()

    async def ready(self, place: Place, passes: float) -> None:
        """Wait until all are ready, or for as long as so many passes take; then all that wait go together."""
        self._awaited.add(place)
        self._ready.add(place)
        gate = self._gate
        self._open_if_all()
        try:
            async with asyncio.timeout(passes * self._pass_s):
                await gate.wait()
        except TimeoutError:
            if gate is self._gate:
                self._awaited &= self._ready
                self._open()
        except asyncio.CancelledError:
            self._ready.discard(place)
            raise

    def took(self, seconds: float) -> None:
        """Take what a pass took."""
        self._pass_s += _WEIGHT * (seconds - self._pass_s) if self._pass_s else seconds

    def _open_if_all(self) -> None:
        if self._ready and self._ready >= self._awaited:
            self._open()

    def _open(self) -> None:
        self._gate.set()
        self._gate, self._ready = asyncio.Event(), set()


@dataclass(frozen=True, eq=False, slots=True)
class Place:
    """One answer's place in the muster."""

    muster: Muster

    async def ready(self, passes: float) -> None:
        """Wait until all are ready, or for as long as so many passes take; then all that wait go together."""
        await self.muster.ready(self, passes)

    def took(self, seconds: float) -> None:
        """Take what a pass took."""
        self.muster.took(seconds)
