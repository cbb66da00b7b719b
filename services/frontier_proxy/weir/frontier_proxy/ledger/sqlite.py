"""The ledger: what is spent and reserved, by tenant and model, in SQLite and in nano-dollars."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import structlog

from weir.common.errors import ErrorCode, WeirError
from weir.frontier_proxy.domain import to_usd

log = structlog.get_logger(__name__)
T = TypeVar("T")
_SCHEMA = """
CREATE TABLE IF NOT EXISTS totals (
    tenant TEXT NOT NULL, model TEXT NOT NULL, settled_nano INTEGER NOT NULL,
    PRIMARY KEY (tenant, model)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS reservations (
    id INTEGER PRIMARY KEY, tenant TEXT NOT NULL, model TEXT NOT NULL, request_id TEXT NOT NULL,
    nano INTEGER NOT NULL, created_at REAL NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS reservations_by_tenant ON reservations (tenant);
"""
_SETTLE = """
INSERT INTO totals (tenant, model, settled_nano) VALUES (?, ?, ?)
ON CONFLICT DO UPDATE SET settled_nano = settled_nano + excluded.settled_nano
"""
_RESERVE = """
INSERT INTO reservations (tenant, model, request_id, nano, created_at) VALUES (?, ?, ?, ?, ?)
"""
_COMMITTED = """
SELECT coalesce((SELECT sum(settled_nano) FROM totals WHERE tenant = :tenant), 0)
     + coalesce((SELECT sum(nano) FROM reservations WHERE tenant = :tenant), 0)
"""
_SPEND = """
SELECT tenant, model, sum(settled), sum(reserved) FROM (
    SELECT tenant, model, settled_nano AS settled, 0 AS reserved FROM totals
    UNION ALL SELECT tenant, model, 0, nano FROM reservations
) WHERE :tenant = '' OR tenant = :tenant GROUP BY tenant, model ORDER BY tenant, model
"""


@dataclass(frozen=True, slots=True)
class Reservation:
    """Money set aside for one attempt."""

    id: int
    tenant: str
    model: str
    nano: int


@dataclass(frozen=True, slots=True)
class SpendRow:
    """Spending of a tenant on a model; ``model`` is empty where the tenant has a budget and no spending."""

    tenant: str
    model: str
    settled_nano: int = 0
    reserved_nano: int = 0
    budget_nano: int | None = None


class Ledger(Protocol):
    """What the proxy needs of a ledger."""

    async def start(self) -> None:
        """Open it; reservations that a crash left are settled at their full amount."""
        ...

    async def aclose(self) -> None:
        """Close it once everything begun is written."""
        ...

    async def reserve(self, tenant: str, model: str, nano: int, request_id: str) -> Reservation:
        """Set money aside. Raises WeirError BUDGET_EXHAUSTED where the budget would be passed."""
        ...

    async def settle(self, reservation: Reservation, nano: int) -> None:
        """Replace a reservation by what was really spent; settling twice changes nothing."""
        ...

    async def spend(self, tenant: str) -> list[SpendRow]:
        """Return the spending of a tenant, of all for the empty name."""
        ...


class SqliteLedger:
    """A ledger in one file, used by one process; every change is a transaction on its own thread."""

    def __init__(self, path: Path, budgets_nano: Mapping[str, int]) -> None:
        self._path, self._budgets = path, dict(budgets_nano)
        self._thread: ThreadPoolExecutor | None = None
        self._db: sqlite3.Connection | None = None

    async def start(self) -> None:
        """Open the file, creating it. Raises WeirError INTERNAL where it cannot be used."""
        self._thread = ThreadPoolExecutor(1, "ledger")
        try:
            left = await self._run(self._open)
        except (OSError, sqlite3.Error) as error:
            hint = f"The ledger {self._path} cannot be used; set state.directory to a writable folder."
            raise WeirError(ErrorCode.INTERNAL, hint, internal=str(error)) from None
        if left:
            log.warning("reservations_recovered", count=len(left), settled_usd=to_usd(sum(left)))

    async def aclose(self) -> None:
        """Write what was begun, and close."""
        thread, self._thread = self._thread, None
        if thread:
            await asyncio.get_running_loop().run_in_executor(thread, self._close)
            thread.shutdown()

    async def reserve(self, tenant: str, model: str, nano: int, request_id: str) -> Reservation:
        """Set money aside, see ``Ledger.reserve``."""
        if self._thread is None:
            raise WeirError(ErrorCode.SHUTTING_DOWN)
        job = self._thread.submit(self._reserve, tenant, model, nano, request_id)
        try:
            return await asyncio.shield(asyncio.wrap_future(job))
        except asyncio.CancelledError:
            # Nobody will ever settle it. The thread runs its jobs in order, so the result is there by then.
            self._thread.submit(lambda: self._settle(job.result(), 0))
            raise

    async def settle(self, reservation: Reservation, nano: int) -> None:
        """Write what was spent, see ``Ledger.settle``; it is written even where the caller is cancelled."""
        await self._run(lambda: self._settle(reservation, nano))

    async def spend(self, tenant: str) -> list[SpendRow]:
        """Return the spending, see ``Ledger.spend``."""
        return await self._run(lambda: self._spend(tenant))

    async def _run(self, work: Callable[[], T]) -> T:
        if self._thread is None:
            raise WeirError(ErrorCode.SHUTTING_DOWN)
        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._thread, work))

    @property
    def _connection(self) -> sqlite3.Connection:
        if self._db is None:
            raise WeirError(ErrorCode.SHUTTING_DOWN)
        return self._db

    def _open(self) -> list[int]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        db = sqlite3.connect(self._path, isolation_level=None, timeout=10)
        db.execute("PRAGMA journal_mode = WAL")
        # Money: a commit must outlive a loss of power.
        db.execute("PRAGMA synchronous = FULL")
        db.executescript(_SCHEMA)
        self._db = db
        return self._recover()

    def _recover(self) -> list[int]:
        """Settle what a crash left at the reserved amount, since the provider may have charged all of it."""
        db = self._connection
        with _transaction(db):
            rows = db.execute("SELECT tenant, model, nano FROM reservations").fetchall()
            db.executemany(_SETTLE, rows)
            db.execute("DELETE FROM reservations")
        return [nano for _, _, nano in rows]

    def _close(self) -> None:
        db, self._db = self._db, None
        if db:
            db.close()

    def _reserve(self, tenant: str, model: str, nano: int, request_id: str) -> Reservation:
        db, budget = self._connection, self._budgets.get(tenant)
        with _transaction(db):
            committed = db.execute(_COMMITTED, {"tenant": tenant}).fetchone()[0]
            if budget is not None and committed + nano > budget:
                raise _exhausted(tenant, nano, budget, committed)
            row = db.execute(
                _RESERVE,
                (tenant, model, request_id, nano, time.time()),
            )
        return Reservation(row.lastrowid or 0, tenant, model, nano)

    def _settle(self, reservation: Reservation, nano: int) -> None:
        db = self._connection
        with _transaction(db):
            deleted = db.execute("DELETE FROM reservations WHERE id = ?", (reservation.id,)).rowcount
            if deleted:
                db.execute(_SETTLE, (reservation.tenant, reservation.model, nano))

    def _spend(self, tenant: str) -> list[SpendRow]:
        rows = [
            SpendRow(name, model, settled, reserved, self._budgets.get(name))
            for name, model, settled, reserved in self._connection.execute(_SPEND, {"tenant": tenant})
        ]
        seen = {row.tenant for row in rows}
        unspent = [
            SpendRow(name, "", budget_nano=budget)
            for name, budget in self._budgets.items()
            if name not in seen and tenant in ("", name)
        ]
        return rows + unspent


class _transaction:  # noqa: N801 - used as a function
    """BEGIN IMMEDIATE ... COMMIT, rolled back on any error."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: object, *_: object) -> None:
        self._db.execute("ROLLBACK" if kind else "COMMIT")


def _exhausted(tenant: str, nano: int, budget: int, committed: int) -> WeirError:
    name = f"tenant '{tenant}'" if tenant else "requests without a tenant"
    free = to_usd(max(0, budget - committed))
    hint = (
        f"Of the budget of ${to_usd(budget):.6g} for {name} ${free:.6g} is free, "
        f"and this request may cost ${to_usd(nano):.6g}."
    )
    return WeirError(ErrorCode.BUDGET_EXHAUSTED, hint, metadata={"tenant": tenant})
