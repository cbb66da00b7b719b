"""A database as the ledger needs it; blocking, used by one thread. What SQLite and PostgreSQL differ in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import msgspec

from weir.frontier_proxy.ledger.changes import Account
from weir.frontier_proxy.ledger.one_step import Batch


class LedgerDownError(Exception):
    """The database cannot be used at present; its text is for the log alone.

    Args:
        uncertain: whether the transaction may have been written all the same.
    """

    def __init__(self, text: str, *, uncertain: bool = False) -> None:
        super().__init__(text)
        self.uncertain = uncertain


class Database(ABC):
    """Statements are written with ``?``. Every method raises LedgerDownError where it cannot be used."""

    integer = "INTEGER"
    # Options of tables whose key is text, and of those whose key is a number.
    keyed = numbered = ""
    # A JSON array as a table `rows` with the column `value`.
    rows = "json_each(?) AS rows"
    # What the driver raises where the database is at fault.
    down: tuple[type[Exception], ...]
    # Whether ``write_at_once`` is worth a try.
    has_one_step = False

    def __init__(self) -> None:
        self._connection: Any = None

    @property
    @abstractmethod
    def advice(self) -> str:
        """What to do where the database cannot be used: a public sentence."""

    @property
    def connected(self) -> bool:
        """Whether there is a connection; it may be broken."""
        return self._connection is not None

    @abstractmethod
    def twin(self) -> Database:
        """Return the same database, not yet connected, for another thread."""

    @abstractmethod
    def hold(self, holder: int) -> None:
        """Show that a process, by its number, lives until it ends in whatever way; idempotent."""

    @abstractmethod
    def dead(self, holder: int) -> bool:
        """Return whether another process lives no more; called in a transaction."""

    @abstractmethod
    def _connect(self) -> Any:
        """Return a new connection in autocommit mode. Raises what ``down`` names."""

    @abstractmethod
    def _begin(self) -> None:
        """Begin a transaction, once no other writer is in one."""

    def connect(self) -> None:
        """Connect, anew where it was connected."""
        self.disconnect()
        with self.guarded():
            self._connection = self._connect()

    def disconnect(self) -> None:
        """Close the connection; idempotent."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(*self.down):
                connection.close()

    def leave(self) -> None:
        """Disconnect for good; whatever shows that the process lives is taken back."""
        self.disconnect()

    def create(self, schema: Iterable[str]) -> list[tuple[Account, int]]:
        """Create what is missing; return what was spent, in nano-dollars, as an older version kept it."""
        for statement in schema:
            self.do(statement.format(integer=self.integer, keyed=self.keyed, numbered=self.numbered))
        return []

    def do(self, statement: str, values: Sequence[Any] = ()) -> Any:
        """Run a statement; return the driver's cursor."""
        if self._connection is None:
            raise LedgerDownError("not connected")
        with self.guarded():
            return self._connection.execute(self._placed(statement), values)

    def do_rows(self, statement: str, rows: Sequence[Sequence[Any]]) -> list[Any]:
        """Run a statement over the rows that stand for its ``{rows}``; return what it selects."""
        if not rows:
            return []
        with self.guarded():
            cursor = self.do(statement.replace("{rows}", self.rows), (msgspec.json.encode(rows).decode(),))
            return list(cursor.fetchall()) if cursor.description else []

    def write_at_once(self, batch: Batch) -> bool:
        """Write a batch in a transaction of one step; return whether it was: not where a reservation to be
        closed is not open, a running total is above its limit, or a database has no such step."""
        return False

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Write all of it or nothing."""
        with self.guarded():
            self._begin()
            try:
                yield
            except BaseException:
                self._roll_back()
                raise
            try:
                self._connection.commit()
            except self.down as error:
                self._roll_back()
                raise LedgerDownError(f"{type(error).__name__}: {error}", uncertain=True) from error

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Turn the driver's errors into LedgerDownError."""
        try:
            yield
        except self.down as error:
            raise LedgerDownError(f"{type(error).__name__}: {error}") from error

    def _roll_back(self) -> None:
        with suppress(*self.down):
            self._connection.rollback()

    def _placed(self, statement: str) -> str:
        """Return a statement with the driver's placeholders."""
        return statement
