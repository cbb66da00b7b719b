"""The component that measures, applies the law and holds the bounds in force."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import structlog

from weir.common.config import Settings
from weir.router.case import Bounds, Case
from weir.router.control import settings as configured
from weir.router.control.choice import chosen
from weir.router.control.forecast import Choose
from weir.router.control.gauges import Gauges
from weir.router.control.law import decide
from weir.router.control.recorder import Attempt, Recorder, Snapshot
from weir.router.control.settings import Law
from weir.router.control.state import State, initial
from weir.router.control.summary import Measured, Summary
from weir.router.domain import Tier

log = structlog.get_logger(__name__)


class SharedState(Protocol):
    """How replicas agree; see ``shared``."""

    @property
    def connected(self) -> bool:
        """Whether the others are heard."""
        ...

    async def merge(self, mine: Summary) -> Summary:
        """Publish this replica's summary and return the sum over all."""
        ...

    async def agree(self, mine: State, now: float) -> State:
        """Return the newest state of all, ``mine`` where it is that. ``now`` is by this replica's clock."""
        ...

    async def aclose(self) -> None:
        """Leave."""
        ...


@dataclass(frozen=True, slots=True)
class Status:
    """What the controller does and why; ``now`` is the clock's time, as the times in ``state`` are."""

    law: Law
    state: State
    summary: Summary
    now: float
    shared: bool

    @property
    def enabled(self) -> bool:
        """Whether anything moves."""
        return self.law.active

    @property
    def tiers(self) -> Mapping[Tier, Measured]:
        """What was measured of each tier over the window."""
        return self.summary.tiers


class Controller:
    """Moves the bounds so that a metric keeps its target; they stay as configured unless that is asked for.

    ``start`` applies the law sixty times a window, in a thread; without it, ``update`` does so at once, which
    is how traces are replayed.

    Args:
        settings: the whole configuration.
        choose: the choice that the bounds are for.
        shared: the state that replicas share, ``None`` where there is one replica.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        choose: Choose = chosen,
        shared: SharedState | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._law = configured.law(settings)
        self._choose = choose
        self._shared = shared
        self._clock = clock
        self._recorder = Recorder(self._law.window_s)
        self._state = initial(self._law.home)
        self._bounds = self._law.home
        self._summary = Summary({tier: Measured() for tier in Tier})
        self._gauges = Gauges()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to apply the law."""
        self._task = asyncio.create_task(self._run())

    async def aclose(self) -> None:
        """Stop; idempotent."""
        task, self._task = self._task, None
        if task:
            task.cancel()
            await asyncio.wait([task])
        if self._shared:
            await self._shared.aclose()

    def bounds(self) -> Bounds:
        """Return the bounds in force."""
        return self._bounds

    def observe(
        self,
        case: Case,
        tier: Tier,
        *,
        first_token_s: float,
        cost_usd: float,
        failed: bool = False,
        handed_over: bool = False,
    ) -> None:
        """Take in how one attempt of one tier went.

        Args:
            case: the request, the same object for all its attempts.
            tier: who tried.
            first_token_s: seconds from the attempt's start to its first token.
            cost_usd: what it cost.
            failed: whether the tier is to blame for its failure.
            handed_over: whether another tier had to finish the answer.
        """
        estimate = case.estimates.get(tier)
        attempt = Attempt(
            at=self._clock(),
            first_token_s=math.inf if failed else first_token_s,
            cost_usd=cost_usd,
            estimated_usd=estimate.cost_usd if estimate else 0.0,
            handed_over=handed_over,
        )
        self._recorder.add(case, tier, attempt)

    def update(self) -> None:
        """Apply the law once, to what this replica alone saw."""
        snapshot = self._snapshot()
        summary = self._take(snapshot.summarize())
        if self._law.active:
            self._adopt(decide(self._law, self._state, summary, self._choose, snapshot.now))

    def measure(self) -> None:
        """Bring the measurements up to date; of all replicas those of the last look stand."""
        if self._shared is None or not self._shared.connected:
            self._take(self._snapshot().summarize())

    def status(self) -> Status:
        """Return what is done and why, as of the last look or ``measure``."""
        connected = self._shared is not None and self._shared.connected
        return Status(self._law, self._state, self._summary, self._clock(), connected)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._law.period_s)
            try:
                await self.refresh()
            except Exception:
                # The thresholds stand; the next look may fare better.
                log.exception("controller_failed")

    async def refresh(self) -> None:
        """Apply the law once, with what all replicas saw, in a thread."""
        snapshot = self._snapshot()
        summary = self._take(await asyncio.to_thread(snapshot.summarize))
        if self._shared:
            self._adopt(await self._shared.agree(self._state, snapshot.now))
            self._summary = summary = await self._shared.merge(summary)
        if self._law.active:
            moved = await asyncio.to_thread(
                decide, self._law, self._state, summary, self._choose, snapshot.now
            )
            if self._shared and moved.version != self._state.version:
                moved = await self._shared.agree(moved, snapshot.now)
            self._adopt(moved)

    def _snapshot(self) -> Snapshot:
        return self._recorder.snapshot(self._clock(), self._state.moved_at)

    def _take(self, found: tuple[Summary, dict[Tier, float]]) -> Summary:
        self._summary, regimes = found
        for tier, began in regimes.items():
            log.info("tier_changed", tier=tier, seconds_ago=round(self._clock() - began, 3))
        self._recorder.forget(regimes)
        return self._summary

    def _adopt(self, state: State) -> None:
        moved = state.version != self._state.version
        if moved and state.moves:
            for move in (move for move in state.moves if move.at == state.moves[0].at):
                log.info(
                    "threshold_moved",
                    threshold=move.knob,
                    before=round(move.before, 4),
                    now=round(move.after, 4),
                    reason=move.reason,
                )
        self._state = state
        self._bounds = state.bounds(self._law.home)
        self._gauges.show(self.status())
