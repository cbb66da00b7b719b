"""The router's receipts, summed up and kept up to date."""

from __future__ import annotations

import asyncio

from weir.common.config.model import State
from weir.spending.report import Saved, Wanted


class Receipts:
    """The receipts' sums, which each reading brings up to date."""

    def __init__(self, state: State) -> None:
        from weir.router.receipts.savings import Savings

        self._state, self._savings = state, Savings()
        self._reading = asyncio.Lock()

    async def rows(self, wanted: Wanted) -> list[Saved] | None:
        """Return the sums; ``None`` where there are no receipts, or they cannot be read at present."""
        async with self._reading:
            return await asyncio.to_thread(self._rows, wanted)

    def _rows(self, wanted: Wanted) -> list[Saved] | None:
        from weir.common.errors import WeirError
        from weir.router.receipts.database import DatabaseDownError
        from weir.router.receipts.sqlite import SqliteDatabase
        from weir.router.receipts.store import database_of

        try:
            database = database_of(self._state)
            if isinstance(database, SqliteDatabase) and not database.path.exists():
                return None
            database.open(create=False)
            try:
                self._savings.read(database)
            finally:
                database.close()
        except (WeirError, DatabaseDownError):
            return None
        return self._savings.rows(wanted)
