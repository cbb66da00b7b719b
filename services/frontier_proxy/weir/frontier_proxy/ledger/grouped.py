"""The ledger as the proxy sees it: what waits is written together, by one thread, durably.

While one transaction is on its way to the disk, the requests of the meantime gather behind it, so that
hundreds a second cost a few commits; and what a request spent is written with the next one's reservation.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import count
from typing import TypeVar, cast

import structlog

from weir.common.errors import ErrorCode, WeirError
from weir.frontier_proxy.domain import TokenCounts, to_usd
from weir.frontier_proxy.ledger.base import BudgetState, Charge, Reservation, SpendQuery, SpendRow
from weir.frontier_proxy.ledger.changes import Close
from weir.frontier_proxy.ledger.keepable import keepable_charge, keepable_counts, keepable_nano
from weir.frontier_proxy.ledger.outbox import Outbox
from weir.frontier_proxy.ledger.reports import Reports
from weir.frontier_proxy.ledger.requests import (
    Outcome,
    Question,
    Recover,
    Release,
    Reserve,
    Settle,
    answered,
)
from weir.frontier_proxy.ledger.store import Store
from weir.frontier_proxy.ledger.writing import Writing

T = TypeVar("T")
log = structlog.get_logger(__name__)


def utc_now() -> datetime:
    """Return the time in UTC."""
    return datetime.now(UTC)


def _tell(left: Sequence[int]) -> None:
    if left:
        log.warning("reservations_recovered", count=len(left), settled_usd=to_usd(sum(left)))


class GroupedLedger:
    """See ``Ledger``; every method belongs to the event loop that started it.

    Args:
        store: where it is kept; used by this ledger's thread alone.
        clock: the time in UTC, which says whose day's budget a reservation is under.
    """

    def __init__(self, store: Store, clock: Callable[[], datetime] = utc_now) -> None:
        self._store, self._clock = store, clock
        self._numbers = count(store.holder << 32)
        self._thread: threading.Thread | None = None
        self._outbox: Outbox | None = None

    async def start(self) -> None:
        """Open it, see ``Ledger.start``."""
        loop = asyncio.get_running_loop()
        opened: Outcome = loop.create_future()
        self._outbox = Outbox(loop)
        writing = Writing(self._store, self._outbox, loop)
        self._thread = threading.Thread(
            target=writing.run, args=(opened, self._clock().date()), name="weir-ledger", daemon=True
        )
        self._thread.start()
        try:
            left = await answered(opened)
        except BaseException:
            await self.aclose()
            raise
        _tell(left)

    async def aclose(self) -> None:
        """Write what was begun, and close; idempotent."""
        thread, self._thread = self._thread, None
        outbox, self._outbox = self._outbox, None
        if thread and outbox:
            outbox.close()
            await asyncio.to_thread(thread.join)

    async def reserve(self, charge: Charge) -> Reservation:
        """Set money aside, see ``Ledger.reserve``. Raises COST_LIMIT, too, for what no attempt costs."""
        outbox = self._open()
        reservation = Reservation(next(self._numbers), keepable_charge(charge), self._clock().date())
        request = Reserve(reservation, outbox.outcome())
        outbox.put(request)
        try:
            await answered(request.outcome)
        except asyncio.CancelledError:
            request.abandoned = True
            outbox.put(Release(request))
            raise
        return reservation

    async def settle(self, reservation: Reservation, counts: TokenCounts, nano: int) -> None:
        """Write what was spent, see ``Ledger.settle``; it may wait a moment for what is written with it."""
        outbox = self._open()
        close = Close(reservation, keepable_counts(counts), keepable_nano(nano), attempts=1)
        request = Settle(close, outbox.outcome())
        outbox.put(request)
        await answered(request.outcome)

    async def spend(self, query: SpendQuery) -> list[SpendRow]:
        """Return the spending, see ``Ledger.spend``. Raises WeirError LEDGER_UNAVAILABLE."""
        return await self._ask(lambda reports: reports.spend(query))

    async def budgets(self, tenant: str | None) -> list[BudgetState]:
        """Return how budgets stand, see ``Ledger.budgets``. Raises WeirError LEDGER_UNAVAILABLE."""
        today = self._clock().date()
        return await self._ask(lambda reports: reports.budget_states(tenant, today))

    async def recover(self) -> None:
        """Settle in full what proxies have left that died since the start. Raises LEDGER_UNAVAILABLE."""
        outbox = self._open()
        request = Recover(self._clock().date(), outbox.outcome())
        outbox.put(request)
        _tell(await answered(request.outcome))

    async def _ask(self, work: Callable[[Reports], T]) -> T:
        outbox = self._open()
        request = Question(work, outbox.outcome())
        outbox.put(request)
        return cast("T", await answered(request.outcome))

    def _open(self) -> Outbox:
        if self._outbox is None:
            raise WeirError(ErrorCode.SHUTTING_DOWN)
        return self._outbox
