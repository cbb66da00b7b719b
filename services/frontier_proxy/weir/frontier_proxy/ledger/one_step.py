"""SQLite writes a batch in one statement, the interpreter's lock given up once: a trigger has its steps.

Each statement from Python gives the lock up several times, and has to get it back from the event loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import msgspec

from weir.frontier_proxy.ledger import statements as sql

Rows = Sequence[Sequence[Any]]


@dataclass(frozen=True, slots=True)
class Batch:
    """What a batch comes to where every change is made: rows for the statements of the same names."""

    limits: Rows
    closes: Rows
    holds: Rows
    totals: Rows
    sums: Rows

    def encoded(self) -> tuple[str, ...]:
        """Return the values for ``WRITE``."""
        tables = (self.limits, self.closes, self.holds, self.totals, self.sums)
        return tuple(msgspec.json.encode(rows).decode() for rows in tables)


def _over(statement: str, name: str) -> str:
    return statement.replace("{rows}", f"json_each(NEW.{name}) AS rows")


_NAMES = [field.name for field in fields(Batch)]
_REFUSED = "SELECT RAISE(ABORT, 'not as it is') WHERE"
# Of the connection alone: a file has nothing of it, whichever version wrote it.
SCHEMA = (
    f"CREATE TEMP VIEW weir_ledger_batch AS SELECT {', '.join(f'NULL AS {name}' for name in _NAMES)}",
    "CREATE TEMP TRIGGER weir_ledger_write INSTEAD OF INSERT ON weir_ledger_batch BEGIN "
    f"{_REFUSED} EXISTS ({_over(sql.PASSED, 'limits')}); "
    f"{_over(sql.CLOSE_OPEN, 'closes')}; "
    f"{_REFUSED} changes() <> json_array_length(NEW.closes); "
    f"{_over(sql.HOLD, 'holds')}; {_over(sql.TOTALS, 'totals')}; {_over(sql.SUMS, 'sums')}; END",
)
WRITE = f"INSERT INTO weir_ledger_batch VALUES ({', '.join('?' for _ in _NAMES)})"  # noqa: S608
