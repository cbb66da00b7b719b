"""Changes to the ledger, and what a batch of them adds to its sums."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any, NamedTuple

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


class Account(NamedTuple):
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

    Args:
        committed: what the database says of the running totals that are checked, by name; it is kept up.
    """

    def __init__(self, committed: Mapping[str, int] | None = None) -> None:
        self.committed = dict(committed or {})
        self.added: dict[Account, Amounts] = defaultdict(Amounts)

    def hold(self, reservation: Reservation) -> None:
        """Set money aside."""
        account, nano = Account.of(reservation), reservation.charge.nano
        self.added[account].reserved_nano += nano
        self._commit(account, nano)

    def close(self, change: Close, *, recovered: bool) -> None:
        """Replace a reservation; one that was settled in full by a recovery is corrected."""
        account, full = Account.of(change.reservation), change.reservation.charge.nano
        amounts = self.added[account]
        amounts.settled_nano += change.nano - (full if recovered else 0)
        amounts.reserved_nano -= 0 if recovered else full
        amounts.attempts += change.attempts - (1 if recovered else 0)
        amounts.count(change.counts)
        self._commit(account, change.nano - full)

    def recover(self, reservation: Reservation) -> None:
        """Settle a reservation in full; what is committed stays."""
        amounts = self.added[Account.of(reservation)]
        amounts.settled_nano += reservation.charge.nano
        amounts.reserved_nano -= reservation.charge.nano
        amounts.attempts += 1

    def take_over(self, account: Account, nano: int) -> None:
        """Add spending that an older version kept."""
        self.added[account].settled_nano += nano

    def totals(self) -> list[list[Any]]:
        """Return what is added to each account."""
        return [
            [account.tenant, account.provider, account.model, account.day.isoformat(), *amounts.row()]
            for account, amounts in self.added.items()
        ]

    def sums(self) -> list[list[Any]]:
        """Return by how much each running total changes: settled and reserved together."""
        moved: dict[str, int] = defaultdict(int)
        for account, amounts in self.added.items():
            if nano := amounts.settled_nano + amounts.reserved_nano:
                for key in scope_keys(account.tenant, account.model, account.day):
                    moved[key] += nano
        return [[key, nano] for key, nano in moved.items() if nano]

    def _commit(self, account: Account, nano: int) -> None:
        if self.committed:
            for key in scope_keys(account.tenant, account.model, account.day):
                if key in self.committed:
                    self.committed[key] += nano
