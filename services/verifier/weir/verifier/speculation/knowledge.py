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
        self.overlapped = RoundCosts()
        self._sequential = {_company(1): RoundCosts()}
        self.overlap = OverlapChoice(overlap, self.sequential(1), self.overlapped)
        self.rates = ServiceRates()
        self.answers = 0

    def sequential(self, answers: int) -> RoundCosts:
        """Return the costs of rounds that take turns while so many answers are at work.

        One answer's passes are bound by reading the weights and many answers' by arithmetic, and drafters are
        slower for many: what was measured in one company tells little of another, so that each has its own
        (1, 2 or 3, 4 to 7, ...). A new one begins with what was learned in the one that is nearest to it.
        """
        company = _company(answers)
        if company not in self._sequential:
            nearest = min(self._sequential, key=lambda known: abs(known - company))
            self._sequential[company] = self._sequential[nearest].first_guess(answers)
        return self._sequential[company]

    @contextmanager
    def answer(self) -> Iterator[None]:
        """Count an answer while it is at work."""
        self.answers += 1
        try:
            yield
        finally:
            self.answers -= 1


def _company(answers: int) -> int:
    return max(1, answers).bit_length()
