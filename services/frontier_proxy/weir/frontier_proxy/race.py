"""Two attempts at one answer: the one whose text comes first gives it, the other is closed and paid for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from weir.frontier_proxy import meters
from weir.frontier_proxy.attempt import Attempt
from weir.frontier_proxy.hedging import Hedges, Stake


class Race:
    """A race between ``first``, which is under way, and a hedge that begins when ``first`` stays silent.

    Args:
        first: the attempt that is waited for.
        hedges: says whether a hedge may be paid for.
    """

    def __init__(self, first: Attempt, hedges: Hedges) -> None:
        self._first, self._hedges = first, hedges
        self._hedge: Attempt | None = None
        self._stake: Stake | None = None
        self._paying: asyncio.Task[None] | None = None
        # The one that is not read from; ``None`` without a hedge.
        self.loser: Attempt | None = None

    async def leader(
        self,
        delay_s: float,
        second: Callable[[], Awaitable[Attempt | None]],
        begin: Callable[[Attempt], None],
    ) -> Attempt:
        """Return the attempt to read from: the first with text, or both having failed the later one.

        Args:
            delay_s: how long ``first`` may be silent.
            second: plans a hedge; ``None`` where there is none.
            begin: begins it.
        """
        first = self._first
        await asyncio.wait([first.decided], timeout=delay_s)
        hedge = None if first.decided.done() else await self._staked(second)
        if hedge is None:
            return first
        self._hedge = hedge
        meters.hedge_sent(hedge.plan.candidate)
        begin(hedge)
        leader = await _ahead(first, hedge)
        self.loser = hedge if leader is first else first
        self._tell(leader, self.loser)
        self._paying = asyncio.create_task(self._pay(self.loser))
        return leader

    async def paid(self) -> None:
        """Wait until the loser's stream is closed and its bill settled."""
        if self._paying:
            await asyncio.wait([self._paying])
        elif self._stake and self._hedge:
            # Nobody won: both have been stopped.
            self._stake.paid(self._hedge.usage.cost_nano)

    async def _staked(self, second: Callable[[], Awaitable[Attempt | None]]) -> Attempt | None:
        hedge = await second()
        # Planning takes its time too, in which the first text may have come.
        if hedge and not self._first.decided.done():
            bound = max(self._first.plan.bound_nano, hedge.plan.bound_nano)
            self._stake = self._hedges.admit(bound)
        if hedge and not self._stake:
            hedge.drop()
        return hedge if self._stake else None

    def _tell(self, leader: Attempt, loser: Attempt) -> None:
        if leader is self._hedge:
            meters.hedge_won(leader.plan.candidate)
            if not loser.decided.done():
                loser.plan.candidate.times.add(loser.waited_s)

    async def _pay(self, loser: Attempt) -> None:
        await loser.stop()
        if self._stake:
            self._stake.paid(loser.usage.cost_nano)
        meters.hedge_paid(loser.plan.candidate, loser.usage.cost_nano)


async def _ahead(first: Attempt, hedge: Attempt) -> Attempt:
    await asyncio.wait([first.decided, hedge.decided], return_when=asyncio.FIRST_COMPLETED)
    leader, other = (first, hedge) if first.decided.done() else (hedge, first)
    if leader.error is None or leader.text_came:
        return leader
    await asyncio.wait([other.decided])
    return other
