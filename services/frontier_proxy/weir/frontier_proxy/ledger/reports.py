"""What the ledger tells: spending by account, and how budgets stand. It reads past whoever writes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from typing import Any

from weir.frontier_proxy.domain import TokenCounts
from weir.frontier_proxy.ledger import statements as sql
from weir.frontier_proxy.ledger.base import BudgetState, SpendQuery, SpendRow
from weir.frontier_proxy.ledger.budgets import EVERYONE, Budgets, state
from weir.frontier_proxy.ledger.database import Database


class Reports:
    """Blocking, used by one thread. Methods raise LedgerDownError.

    Args:
        database: connected where it is first used, and again once it was closed.
        budgets: of which is told how they stand.
    """

    def __init__(self, database: Database, budgets: Budgets) -> None:
        self._database, self._budgets = database, budgets

    def open(self) -> None:
        """Connect, unless it is connected."""
        if not self._database.connected:
            self._database.connect()

    def close(self) -> None:
        """Disconnect; idempotent."""
        self._database.disconnect()

    def spend(self, query: SpendQuery) -> list[SpendRow]:
        """Return the spending, see ``Ledger.spend``."""
        terms = {
            "tenant = ?": query.tenant,
            "day >= ?": query.first and query.first.isoformat(),
            "day <= ?": query.last and query.last.isoformat(),
        }
        given = {term: value for term, value in terms.items() if value is not None}
        where = f"WHERE {' AND '.join(given)}" if given else ""
        statement = (sql.SPEND_BY_DAY if query.by_day else sql.SPEND).format(where=where)
        with self._database.guarded():
            found = self._database.do(statement, tuple(given.values())).fetchall()
        # Nothing is left of a reservation that was given back.
        rows = [_spend_row(row) for row in found if any(row[4:])]
        return sorted(rows, key=lambda row: (row.day or date.min, row.tenant, row.provider, row.model))

    def budget_states(self, tenant: str | None, day: date) -> list[BudgetState]:
        """Return how budgets stand on a day, see ``Ledger.budgets``."""
        rules = [(rule, EVERYONE, key) for rule, key in self._budgets.shared(day)] if tenant is None else []
        for name in self._tenants() if tenant is None else [tenant]:
            rules += [(rule, name, key) for rule, key in self._budgets.own(name, day)]
        sums = committed(self._database, (key for _, _, key in rules))
        return [state(rule, name, sums[key], day) for rule, name, key in rules]

    def _tenants(self) -> list[str]:
        with self._database.guarded():
            spent = {row[0] for row in self._database.do(sql.TENANTS).fetchall()}
        return sorted(spent | self._budgets.tenants)


def committed(database: Database, keys: Iterable[str]) -> dict[str, int]:
    """Return what is settled and reserved, in nano-dollars, by the names of running totals."""
    sums = dict.fromkeys(keys, 0)
    rows = database.do_rows(sql.COMMITTED, [[key] for key in sums])
    return sums | {key: int(nano) for key, nano in rows}


def _spend_row(row: Sequence[Any]) -> SpendRow:
    tenant, provider, model, day, *amounts = row
    settled, reserved, attempts, prompt, completion, cached, cache_write, reasoning = map(int, amounts)
    counts = TokenCounts(prompt, completion, cached, cache_write, reasoning)
    when = date.fromisoformat(day) if day else None
    return SpendRow(tenant, provider, model, when, settled, reserved, attempts, counts)
