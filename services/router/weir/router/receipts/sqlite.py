"""Receipts in one SQLite file, for the routers of one machine."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from weir.common.errors import ErrorCode, WeirError
from weir.router.receipts.sql import SqlDatabase

FILE_NAME = "receipts.sqlite3"
BUSY_S = 5.0
# What may pass by itself: another process writes, the disk is full or fails.
_PASSING = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}


class SqliteDatabase(SqlDatabase):
    """See ``Database``. The file is created where missing."""

    down = (sqlite3.Error, OSError)

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def _connect(self) -> sqlite3.Connection:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Transactions are begun explicitly; the writer and who opened it may be different threads.
            connection = sqlite3.connect(
                self.path, timeout=BUSY_S, isolation_level=None, check_same_thread=False
            )
            self._prepare(connection)
        except (OSError, sqlite3.Error) as error:
            if isinstance(error, sqlite3.Error) and error.sqlite_errorcode & 0xFF in _PASSING:
                raise
            hint = f"The database {self.path.name} cannot be opened; check state.directory."
            raise WeirError(ErrorCode.INTERNAL, hint, internal=f"{self.path}: {error}") from error
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")

    def _begin(self, *, write: bool) -> None:
        self._connection.execute("BEGIN IMMEDIATE" if write else "BEGIN")
