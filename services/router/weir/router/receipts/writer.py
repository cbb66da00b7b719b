"""The one thread that writes, so that no request waits for the database, whatever state that is in.

What cannot be written now is held and tried again, up to a bound; past it new records are dropped.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

import structlog

from weir.common.errors import ErrorCode, WeirError
from weir.router.receipts.chain import Link, UnkeepableError
from weir.router.receipts.database import Database, DatabaseDownError, Row, row
from weir.router.receipts.records import Record

T = TypeVar("T")
GATHER_S = 0.05
MAX_BATCH, YIELD_EVERY = 1_000, 32
# Bounds of what waits: bytes (estimated) of records, and number of questions.
MAX_PENDING_BYTES = 32 * 2**20
MAX_QUESTIONS = 1_000
PRUNE_EVERY = 1_000
RETRY_S, MAX_RETRY_S = 0.25, 10.0
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Note:
    """A record to be: it is made by the writer's thread, off the request's way."""

    make: Callable[[], Record]
    weight: int


@dataclass(frozen=True, slots=True)
class _Question:
    work: Callable[[Database], Any]
    answer: Future[Any]

    def settle(self, database: Database) -> None:
        """Answer it, unless nobody waits any more. Raises DatabaseDownError."""
        if not self.answer.set_running_or_notify_cancel():
            return
        try:
            self.answer.set_result(self.work(database))
        except WeirError as error:
            self.answer.set_exception(error)
        except DatabaseDownError:
            self.answer.set_exception(WeirError(ErrorCode.STORE_UNAVAILABLE))
            raise
        except Exception as error:
            log.exception("receipts_question_failed")
            self.answer.set_exception(WeirError(ErrorCode.INTERNAL, internal=str(error)))

    def refuse(self) -> None:
        """Answer that the database is down."""
        if self.answer.set_running_or_notify_cancel():
            self.answer.set_exception(WeirError(ErrorCode.STORE_UNAVAILABLE))


class Writer:
    """A component over a database; ``post`` and ``ask`` belong to the event loop's thread."""

    def __init__(self, database: Database, keep_decisions: int) -> None:
        self._database = database
        self._keep = keep_decisions
        self._queue: SimpleQueue[_Note | _Question | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._held: deque[tuple[Row, int]] = deque()
        # Weights taken in and done with; each has one thread that changes it.
        self._posted = self._settled = 0
        self._asking = 0
        self._ready = False
        # The first time at the start, for a router that never lives long.
        self._unpruned = PRUNE_EVERY
        self._retry_s = 0.0
        self._retry_at = 0.0
        self._head: Link | None = None
        self.dropped = 0

    async def start(self) -> None:
        """Open the database, later if it is down. Raises WeirError where the set-up is at fault."""
        opened: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, args=(opened,), name="weir-receipts", daemon=True)
        self._thread.start()
        await asyncio.wrap_future(opened)

    async def aclose(self) -> None:
        """Write what is pending and close; idempotent."""
        thread, self._thread = self._thread, None
        if thread:
            self._queue.put(None)
            await asyncio.to_thread(thread.join)

    def post(self, make: Callable[[], Record], weight: int) -> None:
        """Have a record written. ``weight`` is about what it takes in memory, in bytes."""
        if self._posted - self._settled + weight > MAX_PENDING_BYTES:
            self.dropped += 1
            if self.dropped & (self.dropped - 1) == 0:
                log.error("receipts_dropped", total=self.dropped, reason="too many wait to be written")
            return
        self._posted += weight
        self._queue.put(_Note(make, weight))

    async def ask(self, work: Callable[[Database], T]) -> T:
        """Do something with the database, after all that was posted before.

        Raises:
            WeirError: SHUTTING_DOWN, QUEUE_FULL, STORE_UNAVAILABLE; what ``work`` raises, INTERNAL for the
                unforeseen.
        """
        if self._thread is None:
            raise WeirError(ErrorCode.SHUTTING_DOWN)
        if self._asking >= MAX_QUESTIONS:
            raise WeirError(ErrorCode.QUEUE_FULL, "Too many requests wait for the receipts.")
        answer: Future[T] = Future()
        self._queue.put(_Question(work, answer))
        self._asking += 1
        try:
            return await asyncio.wrap_future(answer)
        finally:
            self._asking -= 1

    def _run(self, opened: Future[None]) -> None:
        try:
            self._database.open()
            self._ready = True
        except DatabaseDownError as error:
            self._went_down(error)
        except Exception as error:
            opened.set_exception(error)
            return
        opened.set_result(None)
        closing = False
        while not closing:
            questions, closing = self._gather()
            self._serve(questions, last=closing)
        if self._held:
            log.error("receipts_lost", count=len(self._held), reason="the database was down to the end")
        self._log_head()
        self._database.close()

    def _gather(self) -> tuple[list[_Question], bool]:
        """Take what waits; return the questions and whether it is time to close.

        Nobody waits for a decision to be written: a moment's patience makes one transaction of many, and
        keeps this thread out of the way of the request that it writes about.
        """
        questions: list[_Question] = []
        for item in self._items():
            if item is None:
                return questions, True
            if isinstance(item, _Note):
                self._hold(item)
            else:
                questions.append(item)
        return questions, False

    def _items(self) -> Iterator[_Note | _Question | None]:
        pause = max(0.0, self._retry_at - time.monotonic()) if self._held else None
        try:
            first = self._queue.get(timeout=pause)
            if isinstance(first, _Note):
                time.sleep(GATHER_S)
            yield first
            for _ in range(MAX_BATCH - 1):
                yield self._queue.get_nowait()
        except Empty:
            return

    def _hold(self, note: _Note) -> None:
        try:
            self._held.append((row(note.make()), note.weight))
        except UnkeepableError as error:
            self._settled += note.weight
            log.error("receipt_unkeepable", reason=str(error))  # noqa: TRY400
        except Exception:
            self._settled += note.weight
            log.exception("receipt_unkeepable")
        if len(self._held) % YIELD_EVERY == 0:
            # A burst of records must not keep the interpreter from the requests that they are about.
            time.sleep(0)

    def _serve(self, questions: list[_Question], *, last: bool) -> None:
        """Write what is held and answer, unless the database is down and it is too early to try again."""
        try:
            if last or time.monotonic() >= self._retry_at:
                self._flush()
                while questions:
                    questions.pop(0).settle(self._database)
        except (DatabaseDownError, WeirError) as error:
            self._went_down(error)
        except Exception:
            log.exception("receipts_lost", count=len(self._held))
            self._settle_held()
        for question in questions:
            question.refuse()

    def _flush(self) -> None:
        if not self._ready:
            self._database.open()
            self._ready = True
        if self._held:
            rows = [held for held, _ in self._held]
            self._head = self._database.append(rows)
            self._settle_held()
            self._unpruned += sum(written.kind == "decision" for written in rows)
        if self._unpruned >= PRUNE_EVERY:
            self._unpruned = 0
            self._database.prune(self._keep)
            self._log_head()
        if self._retry_s:
            self._retry_s = self._retry_at = 0.0
            log.info("receipts_database_back", dropped=self.dropped)

    def _log_head(self) -> None:
        """Note the head where the store cannot reach: ``weir receipts verify --head`` takes it from there."""
        if self._head:
            log.info("receipts_head", head=str(self._head))

    def _settle_held(self) -> None:
        self._settled += sum(weight for _, weight in self._held)
        self._held.clear()

    def _went_down(self, error: Exception) -> None:
        if not self._retry_s:
            log.error("receipts_database_down", reason=str(error))
        self._retry_s = min(self._retry_s * 2 or RETRY_S, MAX_RETRY_S)
        self._retry_at = time.monotonic() + self._retry_s
        self._ready = False
        self._database.close()
