"""Whether the drafter should draft on while a chunk is judged. Pure."""

from __future__ import annotations

from typing import Literal

from weir.verifier.speculation.costs import RoundCosts
from weir.verifier.speculation.gain import best_overlapped, best_sequential

Overlap = Literal["auto", "on", "off"]
# Rounds before the first trial, and of each trial.
_BEFORE = 24
_TRIAL = 8
# Rounds until the next trial; twice as many after each, up to the last.
_UNTIL_NEXT = 512
_UNTIL_LAST = 16_384
# How much faster overlapped rounds must be.
_MARGIN = 1.03


class OverlapChoice:
    """Decides for a whole process, from what rounds of both kinds cost in it.

    Where drafter and verifier share a processor, each slows the other: overlapped rounds then show a higher
    draft time and longer passes, and lose. So "auto" runs a few rounds overlapped now and then and takes what
    the measured costs of both kinds promise. Several answers at once keep the drafter busy as they are.

    Args:
        wanted: "on" and "off" decide it outright.
        sequential: measured in rounds that take turns.
        overlapped: measured in rounds that overlap.
    """

    def __init__(self, wanted: Overlap, sequential: RoundCosts, overlapped: RoundCosts) -> None:
        self._wanted = wanted
        self._sequential, self._overlapped = sequential, overlapped
        self._on = wanted == "on"
        self._trial = False
        self._left, self._gap = _BEFORE, _UNTIL_NEXT

    @property
    def pays(self) -> bool:
        """Whether drafting and verifying at the same time is known to be faster than in turns."""
        return self._on

    def on(self, answers: int) -> bool:
        """Return whether the next round should overlap, with so many answers at work."""
        if self._wanted != "auto":
            return self._on
        return answers == 1 and (self._trial or self._on)

    def round_done(self, method: str, alpha: float, longest: int) -> None:
        """Count a round of the only answer at work, drafted by ``method``."""
        if self._wanted != "auto":
            return
        self._left -= 1
        if self._left > 0:
            return
        if self._trial:
            self._trial, self._left, self._gap = False, self._gap, min(2 * self._gap, _UNTIL_LAST)
            self._on = self._pays(method, alpha, longest)
        else:
            self._trial, self._left = True, _TRIAL

    def _pays(self, method: str, alpha: float, longest: int) -> bool:
        apart = best_sequential(alpha, self._sequential.of(method, 1), longest)
        together = best_overlapped(alpha, self._overlapped.of(method, 1), longest)
        return self._overlapped.drafts(method).known and together.rate > _MARGIN * apart.rate
