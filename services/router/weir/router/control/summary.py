"""What was measured over the window, small enough to share and to be added up over replicas."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from weir.router.case import Case
from weir.router.control.sketch import Sketch
from weir.router.domain import Tier


class Measured(msgspec.Struct):
    """Weighted sums over attempts, the latest weighing most.

    Attributes:
        sketch: times to the first token, in seconds; failed attempts count as infinitely slow.
        count: attempts.
        weight, squares: sums of the weights and of their squares.
        handed_over: weight of attempts that another tier had to finish.
        cost, estimated: weighted sums of the USD spent and of those expected.
    """

    sketch: Sketch = msgspec.field(default_factory=Sketch)
    count: int = 0
    weight: float = 0.0
    squares: float = 0.0
    handed_over: float = 0.0
    cost: float = 0.0
    estimated: float = 0.0

    @property
    def effective(self) -> float:
        """How many equally weighted attempts say as much (Kish 1965)."""
        return self.weight**2 / self.squares if self.squares else 0.0

    @property
    def error_rate(self) -> float:
        """Share of failed attempts."""
        return self.sketch.failed / self.weight if self.weight else 0.0

    @property
    def escalation_rate(self) -> float:
        """Share of attempts that were handed over."""
        return self.handed_over / self.weight if self.weight else 0.0

    @property
    def mean_cost(self) -> float | None:
        """USD per attempt."""
        return self.cost / self.weight if self.weight else None

    def merge(self, other: Measured) -> None:
        """Take another's sums in."""
        self.sketch.merge(other.sketch)
        self.count += other.count
        self.weight += other.weight
        self.squares += other.squares
        self.handed_over += other.handed_over
        self.cost += other.cost
        self.estimated += other.estimated


class Summary(msgspec.Struct):
    """One router's window, or several added up.

    ``tiers`` holds each tier's latest regime (see ``change``), ``answered`` all attempts since the bounds
    last moved or a tier last changed, ``cases`` the latest requests.
    """

    tiers: dict[Tier, Measured] = {}
    answered: Measured = msgspec.field(default_factory=Measured)
    cases: list[Case] = []

    @property
    def count(self) -> int:
        """Attempts in all tiers' latest regimes."""
        return sum(measured.count for measured in self.tiers.values())

    @property
    def volume(self) -> dict[Tier, float]:
        """Each tier's share of the attempts."""
        total = sum(measured.weight for measured in self.tiers.values())
        return {tier: measured.weight / total if total else 0.0 for tier, measured in self.tiers.items()}


def merged(summaries: Iterable[Summary]) -> Summary:
    """Return the sum; its parts stay as they are."""
    whole = Summary({tier: Measured() for tier in Tier}, Measured(), [])
    for part in summaries:
        for tier, measured in part.tiers.items():
            whole.tiers[tier].merge(measured)
        whole.answered.merge(part.answered)
        whole.cases.extend(part.cases)
    return whole
