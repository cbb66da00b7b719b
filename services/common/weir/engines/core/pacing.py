"""Fewer frames: outputs of several steps wait for one another, within the pace that each request allows."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from weir.engines.core import messages as m


@dataclass(slots=True)
class _Pace:
    max_steps: int
    max_delay_s: float
    started: bool = False
    held: int = 0


class Pacer:
    """Decides when events are sent.

    A generation's first and last outputs, answers to calls and failures go at once; other outputs once one of
    them has waited for its ``max_delay_s`` or a generation has ``max_steps`` of them waiting. Whatever goes
    takes along all that waits: waking a server costs more than what it is told.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._paces: dict[int, _Pace] = {}
        self._held: list[m.Event] = []
        self._due = math.inf

    @property
    def wait_s(self) -> float | None:
        """Seconds until something is due, ``None`` where nothing waits."""
        return max(0.0, self._due - self._clock()) if self._held else None

    def begin(self, request: m.Submit) -> None:
        """Note a generation's pace."""
        if request.pace_steps > 1:
            self._paces[request.id] = _Pace(request.pace_steps, request.pace_delay_s)

    def end(self, request: int) -> None:
        """Forget a generation."""
        self._paces.pop(request, None)

    def take(self, events: Iterable[m.Event]) -> list[m.Event]:
        """Add events; return those to send now, in order."""
        urgent = False
        for event in events:
            self._held.append(event)
            urgent = self._is_urgent(event) or urgent
        return self.release() if urgent or self._due <= self._clock() else []

    def release(self) -> list[m.Event]:
        """Return all that waits."""
        events, self._held, self._due = self._held, [], math.inf
        for pace in self._paces.values():
            pace.held = 0
        return events

    def _is_urgent(self, event: m.Event) -> bool:
        if not isinstance(event, m.Output):
            return True
        pace = self._paces.get(event.id)
        if event.finish:
            self.end(event.id)
        if pace is None or event.finish or not pace.started:
            if pace is not None:
                pace.started = True
            return True
        pace.held += 1
        self._due = min(self._due, self._clock() + pace.max_delay_s)
        return pace.held >= pace.max_steps
