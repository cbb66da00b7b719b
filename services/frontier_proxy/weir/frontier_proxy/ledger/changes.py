"""Changes to the ledger, and what a batch of them adds to its sums."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date

from weir.frontier_proxy.domain import TokenCounts
from weir.frontier_proxy.ledger.base import Reservation
from weir.frontier_proxy.ledger.budgets import scope_keys


@dataclass(frozen=True, slots=True)
class Hold:
    """Money to be set aside, if the budgets allow it."""

    reservation: Reservation


@dataclass(frozen=True, slots=True)
class Close:
    """A reservation to be replaced by what was spent; ``attempts`` is 0 where nothing was sent."""

    reservation: Reservation
    counts: TokenCounts = field(default_factory=TokenCounts)
    nano: int = 0
    attempts: int = 0


Change = Hold | Close


@dataclass(frozen=True, slots=True, order=True)
class Account:
    """Whose spending, on what and when: the key of the ledger's rows."""

    tenant: str
    provider: str
    model: str
    day: date

    @classmethod
    def of(cls, reservation: Reservation) -> Account:
        """Return the account that a reservation is on."""
        charge = reservation.charge
        return cls(charge.tenant, charge.provider, charge.model, reservation.day)


@dataclass(slots=True)
class Amounts:
    """What is added to a row; nano-dollars and tokens."""

    settled_nano: int = 0
    reserved_nano: int = 0
    attempts: int = 0
    prompt: int = 0
    completion: int = 0
    cached: int = 0
    cache_write: int = 0
    reasoning: int = 0

    def row(self) -> list[int]:
        """Return the amounts in the order of the table's columns."""
        return [
            self.settled_nano,
            self.reserved_nano,
            self.attempts,
            self.prompt,
            self.completion,
            self.cached,
            self.cache_write,
            self.reasoning,
        ]

    def count(self, counts: TokenCounts) -> None:
        """Add tokens."""
        self.prompt += counts.prompt
        self.completion += counts.completion
        self.cached += counts.cached
        self.cache_write += counts.cache_write
        self.reasoning += counts.reasoning


class Tally:
    """Adds changes up, so that a batch writes each row once.

    ``added`` is by account; ``committed`` is by running total and begins with what the database says, of
    which ``moved`` is the part that changed.
    """

    def __init__(self, committed: Mapping[str, int] | None = None) -> None:
        self.committed: dict[str, int] = defaultdict(int, committed or {})
        self.moved: dict[str, int] = defaultdict(int)
        self.added: dict[Account, Amounts] = defaultdict(Amounts)

    def hold(self, reservation: Reservation) -> None:
        """Set money aside."""
        nano = reservation.charge.nano
        self.added[Account.of(reservation)].reserved_nano += nano
        self._commit(reservation, nano)

    def close(self, change: Close, *, recovered: bool) -> None:
        """Replace a reservation; one that was settled in full by a recovery is corrected."""
        full = change.reservation.charge.nano
        amounts = self.added[Account.of(change.reservation)]
        amounts.settled_nano += change.nano - (full if recovered else 0)
        amounts.reserved_nano -= 0 if recovered else full
        amounts.attempts += change.attempts - (1 if recovered else 0)
        amounts.count(change.counts)
        self._commit(change.reservation, change.nano - full)

    def recover(self, reservation: Reservation) -> None:
        """Settle a reservation in full; what is committed stays."""
        amounts = self.added[Account.of(reservation)]
        amounts.settled_nano += reservation.charge.nano
        amounts.reserved_nano -= reservation.charge.nano
        amounts.attempts += 1

    def take_over(self, account: Account, nano: int) -> None:
        """Add spending that an older version kept."""
        self.added[account].settled_nano += nano
        self._move(account.tenant, account.model, account.day, nano)

    def _commit(self, reservation: Reservation, nano: int) -> None:
        self._move(reservation.charge.tenant, reservation.charge.model, reservation.day, nano)

    def _move(self, tenant: str, model: str, day: date, nano: int) -> None:
        for key in scope_keys(tenant, model, day):
            self.committed[key] += nano
            self.moved[key] += nano
