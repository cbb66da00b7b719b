"""What the event loop asks of the ledger's thread, and how it is answered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from typing import Any

from weir.common.errors import ErrorCode, WeirError
from weir.frontier_proxy.ledger.base import Reservation
from weir.frontier_proxy.ledger.changes import Change, Close, Hold
from weir.frontier_proxy.ledger.reports import Reports

# Its result is the answer, or the error to raise: an exception that nobody waits for would be reported.
Outcome = asyncio.Future[Any]
Answers = Sequence[tuple[Outcome, Any]]


@dataclass(slots=True, eq=False)
class Reserve:
    """Money to be set aside. ``abandoned`` is set by the event loop where the caller is gone, ``granted`` by
    the thread where money is set aside."""

    reservation: Reservation
    outcome: Outcome
    abandoned: bool = False
    granted: bool = False


@dataclass(slots=True, eq=False)
class Settle:
    """A reservation to be replaced."""

    close: Close
    outcome: Outcome


@dataclass(slots=True, eq=False)
class Release:
    """Gives back what a caller that is gone may have been granted; it comes behind the reservation."""

    of: Reserve


@dataclass(slots=True, eq=False)
class Question:
    """Something to be read once all before it is written."""

    work: Callable[[Reports], Any]
    outcome: Outcome


@dataclass(slots=True, eq=False)
class Recover:
    """What dead processes have left is to be settled; on the day ``today``."""

    today: date
    outcome: Outcome


Request = Reserve | Settle | Release | Question | Recover


def change_of(request: Request) -> Change | None:
    """Return what a request changes."""
    match request:
        case Settle():
            return request.close
        case Reserve() if not request.abandoned:
            return Hold(request.reservation)
        case Release(of=reserve) if reserve.granted:
            return Close(reserve.reservation)
        case _:
            return None


def unavailable(advice: str, error: Exception | None = None) -> WeirError:
    """Return the answer where the database cannot be used; ``None`` where it was not tried again yet."""
    reason = str(error) if error else "not tried again yet"
    return WeirError(ErrorCode.LEDGER_UNAVAILABLE, advice, internal=reason)


async def answered(outcome: Outcome) -> Any:
    """Wait for an answer. Raises the WeirError that it may be."""
    answer = await outcome
    if isinstance(answer, WeirError):
        raise answer
    return answer


def pass_over(loop: asyncio.AbstractEventLoop, to: Callable[[Answers], None], answers: Answers) -> None:
    """Call something on the event loop with answers, from another thread."""
    # The loop may have ended with everyone who waited.
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(to, answers)


def deliver(answers: Answers) -> None:
    """Give answers to those who wait."""
    for outcome, answer in answers:
        if not outcome.done():
            outcome.set_result(answer)
