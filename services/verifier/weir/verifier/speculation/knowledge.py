"""What one process has learned of drafting and verifying, shared by all its answers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from weir.verifier.speculation.acceptance_rate import ServiceRates
from weir.verifier.speculation.costs import RoundCosts
from weir.verifier.speculation.overlap import Overlap, OverlapChoice


class Knowledge:
    """Measured costs and accepted shares, and how many answers are at work."""

    def __init__(self, overlap: Overlap) -> None:
        self.sequential, self.overlapped = RoundCosts(), RoundCosts()
        self.overlap = OverlapChoice(overlap, self.sequential, self.overlapped)
        self.rates = ServiceRates()
        self.answers = 0

    @contextmanager
    def answer(self) -> Iterator[None]:
        """Count an answer while it is at work."""
        self.answers += 1
        try:
            yield
        finally:
            self.answers -= 1
