"""The ledger's SQL; ``{rows}`` is a JSON array of arrays, as a table ``rows`` with a column ``value``."""

from __future__ import annotations

_AMOUNTS = "settled_nano, reserved_nano, attempts, prompt, completion, cached, cache_write, reasoning"
_NAMES = tuple(_AMOUNTS.split(", "))


def _text(index: int) -> str:
    return f"rows.value->>{index}"


def _integer(index: int) -> str:
    return f"CAST(rows.value->>{index} AS BIGINT)"


SCHEMA = (
    "CREATE TABLE IF NOT EXISTS weir_ledger_totals (tenant TEXT NOT NULL, provider TEXT NOT NULL,"
    " model TEXT NOT NULL, day TEXT NOT NULL, "
    + ", ".join(f"{name} {{integer}} NOT NULL" for name in _NAMES)
    + ", PRIMARY KEY (tenant, provider, model, day)){keyed}",
    "CREATE TABLE IF NOT EXISTS weir_ledger_sums (scope TEXT PRIMARY KEY,"
    " committed_nano {integer} NOT NULL){keyed}",
    "CREATE TABLE IF NOT EXISTS weir_ledger_reservations (id {integer} PRIMARY KEY,"
    " holder {integer} NOT NULL, tenant TEXT NOT NULL, provider TEXT NOT NULL, model TEXT NOT NULL,"
    " day TEXT NOT NULL, nano {integer} NOT NULL, request_id TEXT NOT NULL,"
    " recovered {integer} NOT NULL){numbered}",
)
COMMITTED = (
    "SELECT scope, committed_nano FROM weir_ledger_sums"  # noqa: S608
    f" WHERE scope IN (SELECT {_text(0)} FROM {{rows}})"
)
# Whether one of the running totals is above its limit.
PASSED = (
    f"SELECT 1 FROM {{rows}} JOIN weir_ledger_sums ON scope = {_text(0)}"  # noqa: S608
    f" WHERE committed_nano > {_integer(1)}"
)
_CLOSE = f"DELETE FROM weir_ledger_reservations WHERE id IN (SELECT {_integer(0)} FROM {{rows}})"  # noqa: S608
CLOSE = f"{_CLOSE} RETURNING id, recovered"
CLOSE_OPEN = f"{_CLOSE} AND recovered = 0"
HOLD = (
    "INSERT INTO weir_ledger_reservations"  # noqa: S608
    " (id, holder, tenant, provider, model, day, nano, request_id, recovered)"
    f" SELECT {_integer(0)}, {_integer(1)}, {_text(2)}, {_text(3)}, {_text(4)}, {_text(5)}, {_integer(6)},"
    f" {_text(7)}, 0 FROM {{rows}}"
)
# `WHERE true` tells SQLite's parser that ON is not of a join.
SUMS = (
    "INSERT INTO weir_ledger_sums (scope, committed_nano)"  # noqa: S608
    f" SELECT {_text(0)}, {_integer(1)} FROM {{rows}} WHERE true ON CONFLICT (scope)"
    " DO UPDATE SET committed_nano = weir_ledger_sums.committed_nano + excluded.committed_nano"
)
TOTALS = (
    f"INSERT INTO weir_ledger_totals (tenant, provider, model, day, {_AMOUNTS})"  # noqa: S608
    f" SELECT {', '.join(map(_text, range(4)))}, {', '.join(map(_integer, range(4, 12)))}"
    " FROM {rows} WHERE true ON CONFLICT (tenant, provider, model, day) DO UPDATE SET "
    + ", ".join(f"{name} = weir_ledger_totals.{name} + excluded.{name}" for name in _NAMES)
)
HOLDERS = "SELECT DISTINCT holder FROM weir_ledger_reservations WHERE recovered = 0 AND holder <> ?"
LEFT = (
    "SELECT id, tenant, provider, model, day, nano, request_id FROM weir_ledger_reservations"  # noqa: S608
    f" WHERE recovered = 0 AND holder IN (SELECT {_integer(0)} FROM {{rows}})"
)
RECOVER = (
    "UPDATE weir_ledger_reservations SET recovered = 1"  # noqa: S608
    f" WHERE id IN (SELECT {_integer(0)} FROM {{rows}})"
)
FORGET = "DELETE FROM weir_ledger_reservations WHERE recovered = 1 AND day < ?"
_SUMS = ", ".join(f"SUM({name})" for name in _NAMES)
SPEND = (
    f"SELECT tenant, provider, model, '', {_SUMS} FROM weir_ledger_totals {{where}}"  # noqa: S608
    " GROUP BY tenant, provider, model"
)
SPEND_BY_DAY = f"SELECT tenant, provider, model, day, {_AMOUNTS} FROM weir_ledger_totals {{where}}"  # noqa: S608
TENANTS = "SELECT DISTINCT tenant FROM weir_ledger_totals"
