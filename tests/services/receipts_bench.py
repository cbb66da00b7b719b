"""Receipt stores for the tests, over SQLite and over a real PostgreSQL server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.receipts_samples import FACTS, decision
from weir.common.config.model import Receipts
from weir.router.receipts.postgres import PostgresDatabase
from weir.router.receipts.sql import SqlDatabase
from weir.router.receipts.sqlite import SqliteDatabase
from weir.router.receipts.store import ReceiptStore

# Makes a new connection to the same, at first empty database each time.
Connect = Callable[[], SqlDatabase]
DATABASES = ["sqlite", "postgres"]
ADDRESS = "RECEIPTS_ADDRESS"


def connector(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Connect:
    """Make the database that the parameter names."""
    if request.param == "sqlite":
        return lambda: SqliteDatabase(tmp_path / "deep" / "receipts.sqlite3")
    server = request.getfixturevalue("postgres")
    monkeypatch.setenv(ADDRESS, server.empty())
    return lambda: PostgresDatabase(ADDRESS)


@asynccontextmanager
async def running(
    database: SqlDatabase, *, at: float | None = None, **settings: Any
) -> AsyncIterator[ReceiptStore]:
    now = {} if at is None else {"clock": lambda: at}
    store = ReceiptStore(database, Receipts(**settings), **now)
    await store.start()
    try:
        yield store
    finally:
        await store.aclose()


@contextmanager
def reading(database: SqlDatabase) -> Iterator[SqlDatabase]:
    database.open(create=False)
    try:
        yield database
    finally:
        database.close()


def note(store: ReceiptStore, *numbers: int, tenant: str = "t") -> None:
    for number in numbers:
        store.record(decision(number), FACTS, request_id=f"q{number}", tenant=tenant)
