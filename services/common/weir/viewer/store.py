"""A bounded store of traces in SQLite: one writing thread, batched; readers on their own connections."""

from __future__ import annotations

import asyncio
import contextlib
import json
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import structlog

from weir.common.conventions import HOUSEKEEPING
from weir.viewer import database
from weir.viewer.spans import Span

log = structlog.get_logger(__name__)

MAX_PENDING_BATCHES = 256

_MARKS = ", ".join("?" * len(HOUSEKEEPING))

Outcome = Literal["ok", "cancelled", "error"]


class TraceStore:
    """Traces on disk, at most ``max_traces`` of them: the oldest go first.

    ``on_change`` is called in the writing thread after each batch with more than housekeeping in it.
    """

    def __init__(
        self, path: Path, *, max_traces: int = 5_000, on_change: Callable[[], None] | None = None
    ) -> None:
        self._path = path
        self._max_traces = max_traces
        self._on_change = on_change
        self._queue: queue.Queue[Sequence[Span] | threading.Event | None] = queue.Queue(MAX_PENDING_BATCHES)
        self._thread: threading.Thread | None = None

    async def start(self) -> None:
        """Open the database, setting aside one that is damaged, and start the writing thread."""
        await asyncio.to_thread(database.prepare, self._path)
        self._thread = threading.Thread(target=self._write_all, name="trace-store", daemon=True)
        self._thread.start()

    async def aclose(self) -> None:
        """Write what is pending and stop. Idempotent."""
        thread, self._thread = self._thread, None
        if thread is not None:
            await asyncio.to_thread(self._queue.put, None)
            await asyncio.to_thread(thread.join)

    def add(self, spans: Sequence[Span]) -> bool:
        """Queue spans for writing; ``False`` when the writer is too far behind and they were dropped."""
        try:
            self._queue.put_nowait(spans)
        except queue.Full:
            return False
        return True

    async def flush(self) -> None:
        """Return once everything added before has been written."""
        done = threading.Event()
        await asyncio.to_thread(self._queue.put, done)
        await asyncio.to_thread(done.wait)

    async def traces(
        self,
        *,
        limit: int = 100,
        tier: str = "",
        outcome: Outcome | None = None,
        before_ns: int | None = None,
    ) -> list[dict[str, Any]]:
        """Return summaries, newest first."""
        wanted: dict[str, object] = {
            "tier = ?": tier or None,
            "outcome = ?": outcome,
            "start_ns < ?": before_ns,
        }
        kept = {clause: value for clause, value in wanted.items() if value is not None}
        where = " AND ".join([f"name NOT IN ({_MARKS})", *kept])
        query = f"SELECT * FROM traces WHERE {where} ORDER BY start_ns DESC LIMIT ?"  # noqa: S608 - constants
        return await asyncio.to_thread(self._rows, query, (*HOUSEKEEPING, *kept.values(), limit))

    async def trace(self, trace_id: str) -> dict[str, Any] | None:
        """Return a trace's summary and its spans by start time, or ``None``."""
        found = await asyncio.to_thread(self._rows, "SELECT * FROM traces WHERE trace_id = ?", (trace_id,))
        if not found:
            return None
        query = "SELECT * FROM spans WHERE trace_id = ? ORDER BY start_ns, end_ns DESC"
        spans = await asyncio.to_thread(self._rows, query, (trace_id,))
        for span in spans:
            span["attributes"] = json.loads(span["attributes"])
            span["events"] = json.loads(span["events"])
        return {"trace": found[0], "spans": spans}

    async def totals(self) -> list[dict[str, Any]]:
        """Return count, output tokens and costs per tier, over all answered requests kept."""
        query = """SELECT tier, COUNT(*) AS requests, TOTAL(output_tokens) AS output_tokens,
                          TOTAL(cost_usd) AS cost_usd, TOTAL(frontier_cost_usd) AS frontier_cost_usd
                   FROM traces WHERE tier != '' GROUP BY tier ORDER BY tier"""
        return await asyncio.to_thread(self._rows, query, ())

    def _rows(self, query: str, values: Sequence[object]) -> list[dict[str, Any]]:
        with contextlib.closing(database.connect(self._path)) as connection:
            connection.row_factory = sqlite3.Row
            rows = [dict(row) for row in connection.execute(query, values)]
        for row in rows:
            for flag in row.keys() & {"stand_in", "replay"}:
                row[flag] = bool(row[flag])
        return rows

    def _write_all(self) -> None:
        with contextlib.closing(database.connect(self._path)) as connection:
            for batch in self._batches():
                try:
                    self._write(connection, batch)
                except sqlite3.Error as error:
                    log.warning("trace_store_write_failed", error=str(error), spans=len(batch))
                    connection.rollback()

    def _batches(self) -> Iterator[list[Span]]:
        """Yield everything that is queued as one batch, until the store is closed."""
        while True:
            batch: list[Span] = []
            waiting: list[threading.Event] = []
            item = self._queue.get()
            closing = False
            with contextlib.suppress(queue.Empty):
                while True:
                    if item is None:
                        closing = True
                    elif isinstance(item, threading.Event):
                        waiting.append(item)
                    else:
                        batch.extend(item)
                    item = self._queue.get_nowait()
            if batch:
                yield batch
            for event in waiting:
                event.set()
            if closing:
                return

    def _write(self, connection: sqlite3.Connection, batch: Sequence[Span]) -> None:
        with connection:
            for span in batch:
                database.insert(connection, span)
            database.prune(connection, self._max_traces)
        # The page's own questions leave spans, too: they must not make it ask again.
        if self._on_change is not None and any(span.name not in HOUSEKEEPING for span in batch):
            self._on_change()
