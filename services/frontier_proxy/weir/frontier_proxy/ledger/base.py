"""What a ledger keeps and how it is asked: money set aside, money spent, and budgets over both."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Literal, Protocol

from weir.frontier_proxy.domain import TokenCounts

Period = Literal["day", "month", "total"]


@dataclass(frozen=True, slots=True)
class BudgetRule:
    """What may be committed in a period. ``tenant`` is ``None`` for each tenant by itself and "*" for all of
    them together; ``model`` is ``None`` for all models."""

    tenant: str | None
    model: str | None
    period: Period
    nano: int


@dataclass(frozen=True, slots=True)
class Charge:
    """The most that one attempt can cost, before it is sent."""

    tenant: str
    provider: str
    model: str
    nano: int
    request_id: str


@dataclass(frozen=True, slots=True)
class Reservation:
    """Money set aside for one attempt; it belongs to the day on which it was made."""

    id: int
    charge: Charge
    day: date


@dataclass(frozen=True, slots=True)
class SpendQuery:
    """Which rows are wanted. ``tenant`` is ``None`` for all; days are UTC, the last one included."""

    tenant: str | None = None
    by_day: bool = False
    first: date | None = None
    last: date | None = None


@dataclass(frozen=True, slots=True)
class SpendRow:
    """Spending of a tenant on a model; ``day`` is ``None`` for all time."""

    tenant: str
    provider: str
    model: str
    day: date | None = None
    settled_nano: int = 0
    reserved_nano: int = 0
    attempts: int = 0
    counts: TokenCounts = field(default_factory=TokenCounts)


@dataclass(frozen=True, slots=True)
class BudgetState:
    """A budget in its present period; ``tenant`` is "*" for all together, ``resets_at`` is UTC."""

    tenant: str
    model: str
    period: Period
    limit_nano: int
    committed_nano: int
    resets_at: datetime | None = None


class Ledger(Protocol):
    """Every amount is in nano-dollars, every sum exact.

    Invariants: what is settled and reserved under a budget never exceeds it; each reservation is settled
    exactly once; what was settled outlives a crash of the process and of the machine.
    """

    async def start(self) -> None:
        """Open it. Reservations that a crash left are settled at their full amount, since the provider may
        have charged all of it.

        Raises:
            WeirError: LEDGER_UNAVAILABLE, saying what to do.
        """
        ...

    async def aclose(self) -> None:
        """Close it once everything begun is written."""
        ...

    async def reserve(self, charge: Charge) -> Reservation:
        """Set money aside; cancelled while it waits, it sets nothing aside.

        Raises:
            WeirError: BUDGET_EXHAUSTED, naming the budget, where one would be passed; COST_LIMIT for more
                than one attempt can ever cost; LEDGER_UNAVAILABLE; SHUTTING_DOWN.
        """
        ...

    async def settle(self, reservation: Reservation, counts: TokenCounts, nano: int) -> None:
        """Replace a reservation by what was used and cost, for sure: also where the caller is cancelled, and
        later where it cannot be written now. Settling twice changes nothing."""
        ...

    async def spend(self, query: SpendQuery) -> list[SpendRow]:
        """Return the spending, ordered by day, tenant, provider and model."""
        ...

    async def budgets(self, tenant: str | None) -> list[BudgetState]:
        """Return a tenant's own budgets; for ``None`` those of all together and of each tenant that has spent
        or is named. What all spend together is no tenant's to read."""
        ...
