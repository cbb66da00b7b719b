"""When drafting goes so badly that the rest is better left to the frontier. Pure."""

from __future__ import annotations

from collections import deque


class AcceptanceWindow:
    """The accepted share of the last ``size`` drafted tokens.

    Every drafted token counts, those void behind a rejected one too: they were drafted for nothing.
    """

    def __init__(self, size: int) -> None:
        self._outcomes: deque[bool] = deque(maxlen=size)
        self.drafted = 0
        self.accepted = 0

    def add(self, drafted: int, accepted: int) -> None:
        """Take one round's outcome."""
        self.drafted += drafted
        self.accepted += accepted
        self._outcomes.extend([True] * accepted + [False] * (drafted - accepted))

    @property
    def share(self) -> float | None:
        """The accepted share; ``None`` until the window is full."""
        if len(self._outcomes) < (self._outcomes.maxlen or 0):
            return None
        return sum(self._outcomes) / len(self._outcomes)

    def below(self, bound: float) -> bool:
        """Whether the share is known and under ``bound``; never for a bound of 0."""
        return self.share is not None and self.share < bound
