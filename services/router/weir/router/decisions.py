"""Decisions and what became of them: signals, outcome, cost and labels in SQLite; never a prompt's text.

Writes go through one thread that owns the connection, so that no request waits for the disk.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import structlog

from weir.common.errors import ErrorCode, WeirError
from weir.router.domain import Decision, Facts

GATHER_S = 0.05
MAX_PENDING = 10_000
MAX_DECISIONS = 200_000
PRUNE_EVERY = 1_000
log = structlog.get_logger(__name__)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS decisions (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT, decision_id TEXT NOT NULL UNIQUE, request_id TEXT NOT NULL,
    tenant TEXT NOT NULL, at REAL NOT NULL, tier TEXT NOT NULL, model TEXT NOT NULL, complexity REAL NOT NULL,
    confidence REAL NOT NULL, threshold REAL NOT NULL, classifier TEXT NOT NULL, reasons TEXT NOT NULL,
    exclusions TEXT NOT NULL, prompt_tokens INTEGER NOT NULL, constrained TEXT, no_store INTEGER NOT NULL,
    outcome TEXT, answered_by TEXT, completion_tokens INTEGER, cost_usd REAL, frontier_cost_usd REAL,
    first_token_s REAL, total_s REAL, valid INTEGER
);
CREATE TABLE IF NOT EXISTS feedback (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT, decision_id TEXT NOT NULL, at REAL NOT NULL,
    acceptable INTEGER, score REAL, comment TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS feedback_by_decision ON feedback (decision_id);
"""
_INSERT = (
    "INSERT OR IGNORE INTO decisions (decision_id, request_id, tenant, at, tier, model, complexity,"
    " confidence, threshold, classifier, reasons, exclusions, prompt_tokens, constrained, no_store)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_OUTCOME = (
    "UPDATE decisions SET outcome = ?, answered_by = ?, completion_tokens = ?, cost_usd = ?,"
    " frontier_cost_usd = ?, first_token_s = ?, total_s = ?, valid = ? WHERE decision_id = ?"
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an answer ended: ``finished``, ``cancelled`` or an error code. Seconds and USD."""

    outcome: str
    answered_by: str
    completion_tokens: int = 0
    cost_usd: float = 0.0
    frontier_cost_usd: float = 0.0
    first_token_s: float | None = None
    total_s: float = 0.0
    valid: bool | None = None


@dataclass(frozen=True, slots=True)
class Feedback:
    """A label. ``comment`` is dropped where the request asked that no content be kept."""

    acceptable: bool | None
    score: float | None
    comment: str = ""


_Work = Callable[[sqlite3.Connection], Any]


class DecisionStore:
    """A component over one database file; ``record`` and ``finish`` never block."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._queue: SimpleQueue[tuple[_Work, Future[Any] | None] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._recorded = 0
        self.dropped = 0

    async def start(self) -> None:
        """Open the database. Raises WeirError INTERNAL where it cannot be opened."""
        opened: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, args=(opened,), name="weir-decisions", daemon=True)
        self._thread.start()
        await asyncio.wrap_future(opened)

    async def aclose(self) -> None:
        """Write what is pending and close; idempotent."""
        thread, self._thread = self._thread, None
        if thread:
            self._queue.put(None)
            await asyncio.to_thread(thread.join)

    def record(self, decision: Decision, facts: Facts, *, request_id: str, tenant: str) -> None:
        """Note a decision."""
        row = (
            decision.decision_id, request_id, tenant, time.time(), decision.tier.value, decision.model,
            decision.complexity, decision.confidence, decision.complexity_threshold,
            decision.classifier_revision,
            json.dumps([reason.code for reason in decision.reasons]),
            json.dumps({e.tier.value: e.reason.code for e in decision.exclusions}),
            facts.prompt_tokens, facts.constraint, facts.policy.no_store,
        )  # fmt: skip
        self._recorded += 1
        self._post(lambda database: database.execute(_INSERT, row))
        if self._recorded % PRUNE_EVERY == 0:
            self._post(_prune)

    def finish(self, decision_id: str, outcome: Outcome) -> None:
        """Note how a decision's answer ended."""
        row = (
            outcome.outcome, outcome.answered_by, outcome.completion_tokens, outcome.cost_usd,
            outcome.frontier_cost_usd, outcome.first_token_s, outcome.total_s, outcome.valid, decision_id,
        )  # fmt: skip
        self._post(lambda database: database.execute(_OUTCOME, row))

    async def label(self, decision_id: str, feedback: Feedback) -> None:
        """Store a label. Raises WeirError UNKNOWN_DECISION."""
        if not await self._ask(lambda database: _label(database, decision_id, feedback)):
            raise WeirError(ErrorCode.UNKNOWN_DECISION, fields={"decision_id": "unknown, or no longer kept"})

    async def find(self, decision_id: str) -> dict[str, Any] | None:
        """Return a decision with its ``feedback``, ``None`` where it is not kept."""
        found: dict[str, Any] | None = await self._ask(lambda database: _find(database, decision_id))
        return found

    def _post(self, work: _Work) -> None:
        if self._queue.qsize() >= MAX_PENDING:
            self.dropped += 1
            if self.dropped % PRUNE_EVERY == 1:
                log.warning("decisions_dropped", total=self.dropped)
            return
        self._queue.put((work, None))

    async def _ask(self, work: _Work) -> Any:
        if self._thread is None:
            raise WeirError(ErrorCode.SHUTTING_DOWN)
        answer: Future[Any] = Future()
        self._queue.put((work, answer))
        return await asyncio.wrap_future(answer)

    def _run(self, opened: Future[None]) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            database = sqlite3.connect(self._path)
            database.row_factory = sqlite3.Row
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = NORMAL")
            database.executescript(_SCHEMA)
        except (OSError, sqlite3.Error) as error:
            hint = f"The database {self._path.name} cannot be opened; check state.directory."
            opened.set_exception(WeirError(ErrorCode.INTERNAL, hint, internal=f"{self._path}: {error}"))
            return
        opened.set_result(None)
        try:
            while self._write_batch(database):
                pass
        finally:
            database.close()

    def _write_batch(self, database: sqlite3.Connection) -> bool:
        """Do all pending work in one transaction; return whether more may come.

        Nobody waits for a decision to be written: a moment's patience makes one transaction of many, and
        keeps this thread out of the way of the request that it writes about.
        """
        item = self._queue.get()
        if item is not None and item[1] is None:
            time.sleep(GATHER_S)
        with database:
            while item is not None:
                _perform(database, *item)
                try:
                    item = self._queue.get_nowait()
                except Empty:
                    return True
        return False


def _perform(database: sqlite3.Connection, work: _Work, answer: Future[Any] | None) -> None:
    try:
        result = work(database)
    except sqlite3.Error as error:
        log.exception("decision_not_written")
        if answer:
            answer.set_exception(WeirError(ErrorCode.INTERNAL, internal=str(error)))
        return
    if answer and not answer.cancelled():
        answer.set_result(result)


def _label(database: sqlite3.Connection, decision_id: str, feedback: Feedback) -> bool:
    row = database.execute("SELECT no_store FROM decisions WHERE decision_id = ?", (decision_id,)).fetchone()
    if row is None:
        return False
    comment = "" if row["no_store"] else feedback.comment
    database.execute(
        "INSERT INTO feedback (decision_id, at, acceptable, score, comment) VALUES (?, ?, ?, ?, ?)",
        (decision_id, time.time(), feedback.acceptable, feedback.score, comment),
    )
    return True


def _find(database: sqlite3.Connection, decision_id: str) -> dict[str, Any] | None:
    row = database.execute("SELECT * FROM decisions WHERE decision_id = ?", (decision_id,)).fetchone()
    if row is None:
        return None
    labels = database.execute(
        "SELECT acceptable, score, comment FROM feedback WHERE decision_id = ? ORDER BY sequence",
        (decision_id,),
    )
    return {**dict(row), "feedback": [dict(label) for label in labels]}


def _prune(database: sqlite3.Connection) -> None:
    database.execute(
        "DELETE FROM decisions WHERE sequence <= (SELECT MAX(sequence) FROM decisions) - ?", (MAX_DECISIONS,)
    )
    database.execute("DELETE FROM feedback WHERE decision_id NOT IN (SELECT decision_id FROM decisions)")
