"""The trace database: its tables, and how a span goes in and old traces go out."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from dataclasses import asdict, astuple, fields
from pathlib import Path

import structlog

from weir.viewer.spans import Span
from weir.viewer.summary import Summary, rank, summarize

log = structlog.get_logger(__name__)

SCHEMA_VERSION = 2
MAX_SPANS_PER_TRACE = 2_000
_COLUMNS = tuple(field.name for field in fields(Summary))
_SCHEMA = f"""
CREATE TABLE traces (
  trace_id TEXT PRIMARY KEY, rank INTEGER NOT NULL, spans INTEGER NOT NULL, {", ".join(_COLUMNS)}
) WITHOUT ROWID;
CREATE INDEX traces_by_time ON traces (start_ns);
CREATE TABLE spans (
  trace_id TEXT, span_id TEXT, parent_id TEXT, name TEXT, service TEXT, kind TEXT, start_ns INTEGER,
  end_ns INTEGER, status TEXT, message TEXT, attributes TEXT, events TEXT, PRIMARY KEY (trace_id, span_id)
) WITHOUT ROWID;
PRAGMA user_version = {SCHEMA_VERSION};
"""
_UPSERT = f"""
INSERT INTO traces (trace_id, rank, spans, {", ".join(_COLUMNS)})
VALUES ({", ".join("?" * (3 + len(_COLUMNS)))})
ON CONFLICT (trace_id) DO UPDATE SET
  rank = excluded.rank, {", ".join(f"{c} = excluded.{c}" for c in _COLUMNS)}
WHERE excluded.rank > rank OR (excluded.rank = rank AND excluded.start_ns < start_ns)
"""  # noqa: S608 - the names are those of a dataclass of ours
_PRUNE = "SELECT trace_id FROM traces ORDER BY start_ns DESC LIMIT -1 OFFSET ?"


def prepare(path: Path) -> None:
    """Create the database where there is none of this version; a damaged one is set aside.

    Raises:
        sqlite3.OperationalError: the file cannot be opened or written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        _migrate(path)
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError as error:
        aside = path.with_name(f"{path.name}.damaged-{int(time.time())}")
        path.replace(aside)
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        log.warning("trace_store_damaged", error=str(error), set_aside=str(aside))
        _migrate(path)


def _migrate(path: Path) -> None:
    with contextlib.closing(connect(path)) as connection:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version != SCHEMA_VERSION:
            # Traces of another version are not worth a conversion.
            drop = "DROP TABLE IF EXISTS traces; DROP TABLE IF EXISTS spans;"
            connection.executescript(f"BEGIN; {drop} {_SCHEMA} COMMIT;")


def connect(path: Path) -> sqlite3.Connection:
    """Open the database for one thread; readers do not block the writer."""
    connection = sqlite3.connect(path, timeout=5)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    return connection


def insert(connection: sqlite3.Connection, span: Span) -> None:
    """Add a span, once, and let it tell the trace's summary if it is the most telling so far."""
    connection.execute(_UPSERT, (span.trace_id, rank(span), 0, *astuple(summarize(span))))
    (count,) = connection.execute("SELECT spans FROM traces WHERE trace_id = ?", (span.trace_id,)).fetchone()
    if count >= MAX_SPANS_PER_TRACE:
        return
    row = {
        **asdict(span),
        "attributes": _json(span.attributes),
        "events": _json([asdict(e) for e in span.events]),
    }
    marks = ", ".join("?" * len(row))
    added = connection.execute(f"INSERT OR IGNORE INTO spans VALUES ({marks})", tuple(row.values()))  # noqa: S608
    if added.rowcount:
        connection.execute("UPDATE traces SET spans = spans + 1 WHERE trace_id = ?", (span.trace_id,))


def prune(connection: sqlite3.Connection, max_traces: int) -> None:
    """Delete the oldest traces past the bound."""
    for (trace_id,) in connection.execute(_PRUNE, (max_traces,)).fetchall():
        connection.execute("DELETE FROM spans WHERE trace_id = ?", (trace_id,))
        connection.execute("DELETE FROM traces WHERE trace_id = ?", (trace_id,))


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
