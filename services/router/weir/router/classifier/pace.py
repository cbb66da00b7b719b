"""How fast a classifier is, and how much work may therefore be begun or wait."""

from __future__ import annotations

import math

# Of the time limit: a prompt waits for the batch that runs, for those before it in the queue, and its own.
BATCH_SHARE, QUEUE_SHARE = 0.25, 0.5
_SMOOTHING = 0.2


class Pace:
    """Smoothed seconds per byte of text, against a time limit.

    Without these bounds a queue longer than the limit would have every prompt judged just when nobody waits
    for it any longer; with them, who is let in is answered in time, and the others know at once.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._seconds_per_byte: float | None = None

    def measured(self, size: int, seconds: float) -> None:
        """Learn from a batch."""
        found, before = seconds / size, self._seconds_per_byte
        self._seconds_per_byte = found if before is None else before + _SMOOTHING * (found - before)

    @property
    def batch_size(self) -> float:
        """Bytes that a batch may have; a lone prompt may have more."""
        return self._within(BATCH_SHARE)

    @property
    def queue_size(self) -> float:
        """Bytes that may wait; one prompt always may."""
        return self._within(QUEUE_SHARE)

    def _within(self, share: float) -> float:
        if not self._seconds_per_byte:
            return math.inf
        return share * self._limit_s / self._seconds_per_byte
