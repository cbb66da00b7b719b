"""The ledger in one SQLite file, for the proxies of one machine."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from datetime import UTC, date, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from weir.frontier_proxy.ledger import one_step
from weir.frontier_proxy.ledger.changes import Account
from weir.frontier_proxy.ledger.database import Database, LedgerDownError

FILE_NAME = "ledger.sqlite3"
BUSY_S = 5.0
# The day of what was spent before days were kept.
UNDATED = date(1970, 1, 1)


class SqliteDatabase(Database):
    """See ``Database``. Each process that uses the file holds a lock beside it, which the system lets go
    where the process dies."""

    keyed, numbered = " STRICT, WITHOUT ROWID", " STRICT"
    down = (sqlite3.Error, OSError)
    has_one_step = True

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self._lock: FileLock | None = None

    @property
    def advice(self) -> str:
        """What to do where the file cannot be used."""
        return f"The ledger {self.path.name} cannot be used; check state.directory and its free space."

    def twin(self) -> Database:
        """Return the same file, see ``Database.twin``."""
        return SqliteDatabase(self.path)

    def hold(self, holder: int) -> None:
        """Take the process' lock, see ``Database.hold``."""
        if self._lock is None:
            lock = FileLock(self._lock_path(holder), thread_local=False)
            lock.acquire(timeout=0)
            self._lock = lock
            for left in self.path.parent.glob(f"{self.path.name}.*.lock"):
                _remove_if_free(left)

    def dead(self, holder: int) -> bool:
        """Return whether nobody has a process' lock, see ``Database.dead``."""
        path = self._lock_path(holder)
        return not path.exists() or _remove_if_free(path)

    def leave(self) -> None:
        """Disconnect for good, see ``Database.leave``."""
        super().leave()
        lock, self._lock = self._lock, None
        if lock:
            Path(lock.lock_file).unlink(missing_ok=True)
            lock.release()

    def create(self, schema: Iterable[str]) -> list[tuple[Account, int]]:
        """Create what is missing, and take over the tables of before there were days: totals as of no day,
        and in full what a crash had left."""
        super().create(schema)
        for statement in one_step.SCHEMA:
            self.do(statement)
        if not self.do("SELECT 1 FROM sqlite_master WHERE name = 'totals'").fetchone():
            return []
        spent = [
            (Account(tenant, "", model, UNDATED), nano)
            for tenant, model, nano in self.do("SELECT tenant, model, settled_nano FROM totals")
        ]
        left = [
            (Account(tenant, "", model, datetime.fromtimestamp(created_at, UTC).date()), nano)
            for tenant, model, created_at, nano in self.do(
                "SELECT tenant, model, created_at, nano FROM reservations"
            )
        ]
        self.do("DROP TABLE totals")
        self.do("DROP TABLE reservations")
        return spent + left

    def write_at_once(self, batch: one_step.Batch) -> bool:
        """Write a batch in one statement, see ``Database.write_at_once``."""
        try:
            self._connection.execute(one_step.WRITE, batch.encoded())
        except sqlite3.IntegrityError:
            return False
        except sqlite3.Error as error:
            # What else fails has been rolled back.
            uncertain = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_IOERR
            raise LedgerDownError(f"{type(error).__name__}: {error}", uncertain=uncertain) from error
        return True

    def _connect(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self.path, timeout=BUSY_S, isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        # Money: a commit must outlive a loss of power.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA temp_store = MEMORY")
        return connection

    def _begin(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")

    def _lock_path(self, holder: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{holder}.lock")


def _remove_if_free(lock: Path) -> bool:
    """Remove the lock of a process that died; return whether it was one."""
    try:
        with FileLock(lock, timeout=0):
            lock.unlink(missing_ok=True)
    except Timeout:
        return False
    return True
