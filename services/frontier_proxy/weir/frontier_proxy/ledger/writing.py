"""The thread that writes the ledger: it takes all that waits, writes it in one transaction, and answers.

What cannot be written now is held and tried again; nothing new is set aside meanwhile.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import date
from queue import Empty
from typing import Any

import structlog

from weir.common.errors import WeirError
from weir.frontier_proxy.ledger.changes import Change, Close, Hold
from weir.frontier_proxy.ledger.database import LedgerDownError
from weir.frontier_proxy.ledger.outbox import Outbox
from weir.frontier_proxy.ledger.reading import Reading
from weir.frontier_proxy.ledger.requests import (
    Answers,
    Outcome,
    Question,
    Recover,
    Request,
    Reserve,
    Settle,
    change_of,
    deliver,
    pass_over,
    unavailable,
)
from weir.frontier_proxy.ledger.store import Store

RETRY_S, MAX_RETRY_S = 0.25, 5.0
log = structlog.get_logger(__name__)


class Writing:
    """Everything in here belongs to the thread that runs it.

    Args:
        store: where it is written.
        outbox: what is asked comes from there, and the answers go back there.
        loop: where those who asked wait.
    """

    def __init__(self, store: Store, outbox: Outbox, loop: asyncio.AbstractEventLoop) -> None:
        self._store, self._outbox, self._loop = store, outbox, loop
        self._reading = Reading(store.reports(), store.database.advice, loop)
        self._held: list[Close] = []
        self._retry_s = self._retry_at = 0.0

    def run(self, opened: Outcome, today: date) -> None:
        """Open the store, recover, and serve to the end; ``opened`` gets the amounts recovered."""
        try:
            self._store.open()
            left = self._store.recover(today)
        except Exception as error:
            self._store.close()
            self._pass_over(deliver, [(opened, self._unavailable(error))])
            return
        self._pass_over(deliver, [(opened, left)])
        while (batch := self._next()) is not None:
            answers = self._serve(batch)
            if batch:
                self._pass_over(self._outbox.written, answers)
        if self._held:
            self._write([*self._held], last=True)
        if self._held:
            log.error(
                "settlements_unwritten", count=len(self._held), then="settled in full at the next start"
            )
        self._reading.close()
        self._store.close()

    def _next(self) -> Sequence[Request] | None:
        """Return what is asked next; nothing where it is time to try again."""
        pause = max(0.0, self._retry_at - time.monotonic()) if self._held else None
        try:
            return self._outbox.batches.get(timeout=pause)
        except Empty:
            return ()

    def _serve(self, requests: Sequence[Request]) -> Answers:
        """Write what the requests change; return the answers."""
        asked = [(request, change_of(request)) for request in requests]
        changes = [*self._held, *(change for _, change in asked if change)]
        told = self._write(changes)
        answers: list[tuple[Outcome, Any]] = []
        for request, change in asked:
            match request:
                case Reserve() if change:
                    refusal = told[change.reservation.id]
                    request.granted = refusal is None
                    answers.append((request.outcome, refusal))
                case Settle():
                    answers.append((request.outcome, None))
                case Question():
                    self._reading.ask(request)
                case Recover():
                    answers.append((request.outcome, self._recover(request.today)))
        return answers

    def _write(self, changes: list[Change], *, last: bool = False) -> dict[int, WeirError | None]:
        """Write changes, or keep what must not be lost; return what refuses each hold, by its number."""
        holds = [change.reservation.id for change in changes if isinstance(change, Hold)]
        if not last and time.monotonic() < self._retry_at:
            self._held = [change for change in changes if isinstance(change, Close)]
            return dict.fromkeys(holds, self._unavailable())
        try:
            if self._retry_s:
                self._store.open()
            refusals = self._store.write(changes) if changes else {}
        except Exception as error:
            # Nothing may end the thread, and no settlement be lost.
            self._went_down(changes, error)
            return dict.fromkeys(holds, self._unavailable(error))
        self._held = []
        if self._retry_s:
            self._retry_s = self._retry_at = 0.0
            log.info("ledger_back")
        return refusals

    def _recover(self, today: date) -> list[int] | WeirError:
        """Settle what dead processes have left; return the amounts, or why it cannot be done now."""
        if self._retry_s:
            return self._unavailable()
        try:
            return self._store.recover(today)
        except Exception as error:
            # Nothing may end the thread.
            return self._unavailable(error)

    def _went_down(self, changes: list[Change], error: Exception) -> None:
        uncertain = isinstance(error, LedgerDownError) and error.uncertain
        self._held = [
            # What may have been set aside, and whose caller is told that it was not, is given back.
            change if isinstance(change, Close) else Close(change.reservation)
            for change in changes
            if uncertain or isinstance(change, Close)
        ]
        if not self._retry_s:
            unforeseen = not isinstance(error, LedgerDownError)
            log.error("ledger_down", reason=str(error), held=len(self._held), exc_info=unforeseen)
        self._retry_s = min(self._retry_s * 2 or RETRY_S, MAX_RETRY_S)
        self._retry_at = time.monotonic() + self._retry_s

    def _pass_over(self, to: Callable[[Answers], None], answers: Answers) -> None:
        """Call something on the event loop."""
        pass_over(self._loop, to, answers)

    def _unavailable(self, error: Exception | None = None) -> WeirError:
        return unavailable(self._store.database.advice, error)
