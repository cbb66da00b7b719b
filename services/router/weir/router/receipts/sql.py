"""The chain in two tables, in the SQL that SQLite and PostgreSQL share; what differs is left to them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import astuple
from typing import Any

from weir.router.receipts.chain import Link, extend, genesis
from weir.router.receipts.database import PAGE, DatabaseDownError, Filter, Row, Stored

# Deleted at once, so that no transaction takes long.
MAX_PRUNED = 20_000
_TAIL = "SELECT sequence, hash FROM weir_receipts ORDER BY sequence DESC LIMIT 1"
_ANCHOR = "SELECT sequence, hash FROM weir_receipts_anchor"
_INSERT = (
    "INSERT INTO weir_receipts (sequence, hash, body, kind, decision_id, tenant, at)"
    " VALUES (?, ?, ?, ?, ?, ?, ?)"
)
_NEW_ANCHOR = "INSERT INTO weir_receipts_anchor (id, sequence, hash) VALUES (1, ?, ?) ON CONFLICT DO NOTHING"
_RECEIPTS = "SELECT sequence, hash, body, kind, decision_id, tenant, at FROM weir_receipts WHERE "
_OF_DECISION = _RECEIPTS + "decision_id = ? ORDER BY sequence"
_OLDEST_KEPT = (
    "SELECT sequence FROM weir_receipts WHERE kind = 'decision' ORDER BY sequence DESC LIMIT 1 OFFSET ?"
)
_BEFORE = "SELECT sequence, hash FROM weir_receipts WHERE sequence < ? ORDER BY sequence DESC LIMIT 1"
_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS weir_receipts (sequence {integer} PRIMARY KEY, hash {blob} NOT NULL,"
    " body {blob} NOT NULL, kind TEXT NOT NULL, decision_id TEXT NOT NULL, tenant TEXT NOT NULL,"
    " at {double} NOT NULL)",
    "CREATE TABLE IF NOT EXISTS weir_receipts_anchor (id {integer} PRIMARY KEY, sequence {integer} NOT NULL,"
    " hash {blob} NOT NULL)",
    "CREATE INDEX IF NOT EXISTS weir_receipts_by_decision ON weir_receipts (decision_id)",
    "CREATE INDEX IF NOT EXISTS weir_receipts_decisions ON weir_receipts (sequence) WHERE kind = 'decision'",
)


class SqlDatabase(ABC):
    """See ``Database``. Statements are written with ``?``; connections are in autocommit mode."""

    integer, double, blob = "INTEGER", "REAL", "BLOB"
    # What the driver raises where the database is at fault.
    down: tuple[type[Exception], ...]

    def __init__(self) -> None:
        self._connection: Any = None

    @abstractmethod
    def _connect(self) -> Any:
        """Return a new connection. Raises what ``down`` names, or WeirError where the set-up is at fault."""

    @abstractmethod
    def _begin(self, *, write: bool) -> None:
        """Begin a transaction; one that writes waits until no other writer is in one."""

    def open(self, *, create: bool = True) -> None:
        """Connect and create the tables, see ``Database.open``."""
        with self._guarded():
            self._connection = self._connect()
            if not create:
                return
            with self._transaction(write=True):
                for statement in _SCHEMA:
                    self._do(statement.format(integer=self.integer, double=self.double, blob=self.blob))
                start = genesis()
                self._do(_NEW_ANCHOR, (start.sequence, start.hash))

    def close(self) -> None:
        """Disconnect; idempotent."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def append(self, rows: Sequence[Row]) -> Link:
        """Add rows, see ``Database.append``; the tail is read anew, for another process may have written."""
        with self._guarded(), self._transaction(write=True):
            tail = self._tail()
            values = []
            for row in rows:
                tail = extend(tail, row.body)
                values.append((tail.sequence, tail.hash, *astuple(row)))
            self._connection.cursor().executemany(self._sql(_INSERT), values)
        return tail

    def of_decision(self, decision_id: str) -> list[Stored]:
        """Return a decision's receipts, see ``Database.of_decision``."""
        if "\0" in decision_id:
            return []
        with self._guarded():
            return [_stored(row) for row in self._do(_OF_DECISION, (decision_id,)).fetchall()]

    def page(self, after: int, only: Filter) -> list[Stored]:
        """Return the next receipts, see ``Database.page``."""
        where, values = _where(only)
        statement = f"{_RECEIPTS}sequence > ?{where} ORDER BY sequence LIMIT ?"
        with self._guarded():
            return [_stored(row) for row in self._do(statement, (after, *values, PAGE)).fetchall()]

    def anchor(self) -> Link:
        """Return the link before the oldest receipt."""
        with self._guarded():
            return _link(self._do(_ANCHOR).fetchone())

    def prune(self, keep: int) -> int:
        """Delete what is too old, see ``Database.prune``."""
        with self._guarded(), self._transaction(write=True):
            oldest = self._do(_OLDEST_KEPT, (keep - 1,)).fetchone()
            if not oldest:
                return 0
            end = min(oldest[0], self.anchor().sequence + MAX_PRUNED + 1)
            last = self._do(_BEFORE, (end,)).fetchone()
            if not last:
                return 0
            anchor = _link(last)
            self._do("UPDATE weir_receipts_anchor SET sequence = ?, hash = ?", (anchor.sequence, anchor.hash))
            return int(self._do("DELETE FROM weir_receipts WHERE sequence <= ?", (anchor.sequence,)).rowcount)

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Hold what is read at one moment."""
        with self._guarded(), self._transaction(write=False):
            yield

    def _tail(self) -> Link:
        return _link(self._do(_TAIL).fetchone() or self._do(_ANCHOR).fetchone())

    def _do(self, statement: str, values: Sequence[Any] = ()) -> Any:
        return self._connection.execute(self._sql(statement), values)

    def _sql(self, statement: str) -> str:
        """Return a statement with the driver's placeholders."""
        return statement

    @contextmanager
    def _transaction(self, *, write: bool) -> Iterator[None]:
        self._begin(write=write)
        try:
            yield
            self._connection.commit()
        except BaseException:
            with suppress(*self.down):
                self._connection.rollback()
            raise

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except self.down as error:
            raise DatabaseDownError(f"{type(error).__name__}: {error}") from error


def _where(only: Filter) -> tuple[str, tuple[Any, ...]]:
    if only.all:
        return "", ()
    bounds = {"at >= ?": only.since, "at < ?": only.until, "tenant = ?": only.tenant}
    terms = ["kind = 'decision'", *(term for term, value in bounds.items() if value is not None)]
    chosen = f"SELECT decision_id FROM weir_receipts WHERE {' AND '.join(terms)}"  # noqa: S608
    return f" AND decision_id IN ({chosen})", tuple(value for value in bounds.values() if value is not None)


def _link(row: Sequence[Any]) -> Link:
    return Link(int(row[0]), bytes(row[1]))


def _stored(row: Sequence[Any]) -> Stored:
    return Stored(_link(row), Row(bytes(row[2]), *row[3:]))
