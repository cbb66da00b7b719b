"""Ledgers for the tests, over SQLite and over a real PostgreSQL server."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from weir.common.errors import ErrorCode, WeirError
from weir.frontier_proxy.domain import TokenCounts
from weir.frontier_proxy.ledger.base import BudgetRule, Charge, Ledger, SpendQuery
from weir.frontier_proxy.ledger.budgets import Budgets
from weir.frontier_proxy.ledger.database import Database
from weir.frontier_proxy.ledger.grouped import GroupedLedger
from weir.frontier_proxy.ledger.postgres import PostgresDatabase
from weir.frontier_proxy.ledger.sqlite import SqliteDatabase
from weir.frontier_proxy.ledger.store import Store

DATABASES = ["sqlite", "postgres"]
NOW = datetime(2026, 11, 30, 23, 59, tzinfo=UTC)
# Makes a new connection to the same, at first empty database each time.
Connect = Callable[[], Database]


class Clock:
    """A clock that is set by hand."""

    def __init__(self, now: datetime = NOW) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def move(self, **by: float) -> None:
        self.now += timedelta(**by)


def connector(request: pytest.FixtureRequest, tmp_path: Path) -> Connect:
    """Make the database that the parameter names."""
    if request.param == "sqlite":
        return lambda: SqliteDatabase(tmp_path / "deep" / "ledger.sqlite3")
    address = request.getfixturevalue("postgres").empty()
    return lambda: PostgresDatabase("LEDGER_ADDRESS", address)


def ledger(database: Database, rules: Sequence[BudgetRule] = (), clock: Clock | None = None) -> GroupedLedger:
    """Return a ledger of a process of its own, not yet started."""
    return GroupedLedger(Store(database, secrets.randbits(31), Budgets(rules)), clock or Clock())


@asynccontextmanager
async def running(
    database: Database, rules: Sequence[BudgetRule] = (), clock: Clock | None = None
) -> AsyncIterator[GroupedLedger]:
    opened = ledger(database, rules, clock)
    await opened.start()
    try:
        yield opened
    finally:
        await opened.aclose()


def charge(nano: int, tenant: str = "acme", model: str = "gpt", provider: str = "openai") -> Charge:
    return Charge(tenant, provider, model, nano, "r1")


async def spent(of: Ledger, tenant: str | None = None) -> tuple[int, int]:
    """Return what is settled and what is reserved."""
    rows = await of.spend(SpendQuery(tenant))
    return sum(row.settled_nano for row in rows), sum(row.reserved_nano for row in rows)


async def spend_at_once(of: Ledger, amount: Charge, nano: int, counts: TokenCounts | None = None) -> None:
    """Reserve and settle."""
    await of.settle(await of.reserve(amount), counts or TokenCounts(), nano)


async def refused(of: Ledger, amount: Charge) -> WeirError:
    """Return the error of a reservation that passes a budget."""
    with pytest.raises(WeirError) as caught:
        await of.reserve(amount)
    assert caught.value.code is ErrorCode.BUDGET_EXHAUSTED
    return caught.value
