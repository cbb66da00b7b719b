"""What the ledger keeps: sums by account, running totals for the budgets, and reservations.

A batch goes over as JSON, so that a handful of statements writes it whatever its size, or one, where all is
as expected and the database can. Budgets are checked against running totals, so history costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

from weir.common.errors import WeirError
from weir.frontier_proxy.ledger import statements as sql
from weir.frontier_proxy.ledger.base import BudgetRule, Charge, Reservation
from weir.frontier_proxy.ledger.budgets import Budgets, passed
from weir.frontier_proxy.ledger.changes import Change, Close, Hold, Tally
from weir.frontier_proxy.ledger.database import Database
from weir.frontier_proxy.ledger.one_step import Batch
from weir.frontier_proxy.ledger.reports import Reports, committed

# How long what a recovery settled can still be corrected by a proxy that was only thought dead.
KEEP_RECOVERED = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a batch comes to; ``refusals`` are by the number of the reservation."""

    tally: Tally
    held: list[Reservation] = field(default_factory=list)
    refusals: dict[int, WeirError | None] = field(default_factory=dict)

    def hold(self, reservation: Reservation, rules: Sequence[tuple[BudgetRule, str]]) -> None:
        """Set money aside, unless one of the rules would be passed."""
        refusal = passed(reservation.charge, rules, self.tally.committed, reservation.day)
        self.refusals[reservation.id] = refusal
        if refusal is None:
            self.tally.hold(reservation)
            self.held.append(reservation)


class Store:
    """One process' way to a ledger; blocking, used by one thread. Methods raise LedgerDownError.

    Args:
        database: where it is.
        holder: this process' number, on its reservations; positive, 31 bits.
        budgets: what is checked.
    """

    def __init__(self, database: Database, holder: int, budgets: Budgets) -> None:
        self.database, self.holder = database, holder
        self._budgets = budgets

    def open(self) -> None:
        """Connect, anew where it was connected, and create the tables."""
        self.database.connect()
        with self.database.transaction():
            # In its turn as a writer: another one's recovery, which tries the lock, would keep it from us.
            self.database.hold(self.holder)
            tally = Tally()
            for account, nano in self.database.create(sql.SCHEMA):
                tally.take_over(account, nano)
            self._keep(tally)

    def close(self) -> None:
        """Disconnect for good; idempotent."""
        self.database.leave()

    def recover(self, today: date) -> list[int]:
        """Settle in full what dead processes have left, since the provider may have charged all of it.

        Returns:
            The amounts.
        """
        with self.database.transaction():
            self.database.do(sql.FORGET, ((today - KEEP_RECOVERED).isoformat(),))
            others = self.database.do(sql.HOLDERS, (self.holder,)).fetchall()
            dead = [[number] for (number,) in others if self.database.dead(int(number))]
            left = [_reservation(row) for row in self.database.do_rows(sql.LEFT, dead)]
            tally = Tally()
            for reservation in left:
                tally.recover(reservation)
            self.database.do_rows(sql.RECOVER, [[reservation.id] for reservation in left])
            self._keep(tally)
        return [reservation.charge.nano for reservation in left]

    def write(self, changes: Sequence[Change]) -> dict[int, WeirError | None]:
        """Write changes in their order, in one transaction.

        Returns:
            What refuses each hold, by its reservation's number: BUDGET_EXHAUSTED, or ``None``.
        """
        if self.database.has_one_step and self._write_at_once(changes):
            return {change.reservation.id: None for change in changes if isinstance(change, Hold)}
        with self.database.transaction():
            # Whether they change anything is decided here: whoever settles twice finds nothing to settle.
            closes = [[change.reservation.id] for change in changes if isinstance(change, Close)]
            closed = self.database.do_rows(sql.CLOSE, closes)
            plan = self._plan(changes, {int(number): bool(recovered) for number, recovered in closed})
            self.database.do_rows(sql.HOLD, [_row(self.holder, reservation) for reservation in plan.held])
            self._keep(plan.tally)
        return plan.refusals

    def _write_at_once(self, changes: Sequence[Change]) -> bool:
        """Write changes as they are, if that is right; return whether it was."""
        tally = Tally()
        closes, held = [], []
        for change in changes:
            if isinstance(change, Hold):
                tally.hold(change.reservation)
                held.append(change.reservation)
            else:
                tally.close(change, recovered=False)
                closes.append([change.reservation.id])
        limits = self._budgets.limits(held)
        if any(nano < 0 for nano in limits.values()):
            return False
        rows = [_row(self.holder, reservation) for reservation in held]
        batch = Batch([*limits.items()], closes, rows, tally.totals(), tally.sums())
        return self.database.write_at_once(batch)

    def _plan(self, changes: Sequence[Change], closable: dict[int, bool]) -> Plan:
        """Decide on changes; ``closable`` says which reservations there are, and whether a recovery has
        settled them."""
        over = {
            change.reservation.id: self._budgets.over(change.reservation.charge, change.reservation.day)
            for change in changes
            if isinstance(change, Hold)
        }
        plan = Plan(Tally(committed(self.database, (key for rules in over.values() for _, key in rules))))
        for change in changes:
            number = change.reservation.id
            if isinstance(change, Hold):
                plan.hold(change.reservation, over[number])
            elif number in closable:
                plan.tally.close(change, recovered=closable.pop(number))
        return plan

    def reports(self) -> Reports:
        """Return what reads the same ledger on a connection of its own, for another thread."""
        return Reports(self.database.twin(), self._budgets)

    def _keep(self, tally: Tally) -> None:
        self.database.do_rows(sql.TOTALS, tally.totals())
        self.database.do_rows(sql.SUMS, tally.sums())


def _row(holder: int, reservation: Reservation) -> list[Any]:
    charge, day = reservation.charge, reservation.day.isoformat()
    account = [charge.tenant, charge.provider, charge.model, day]
    return [reservation.id, holder, *account, charge.nano, charge.request_id]


def _reservation(row: Sequence[Any]) -> Reservation:
    number, tenant, provider, model, day, nano, request_id = row
    charge = Charge(tenant, provider, model, int(nano), request_id)
    return Reservation(int(number), charge, date.fromisoformat(day))
