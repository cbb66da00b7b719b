"""One answer: the attempts at it, in order, until one comes to its end."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import NoReturn

import structlog

from weir.common.config.base import ResidencyName
from weir.common.context import current_call
from weir.common.errors import ErrorCode, WeirError
from weir.frontier_proxy import meters
from weir.frontier_proxy.attempt import Attempt
from weir.frontier_proxy.breaker import CircuitState
from weir.frontier_proxy.costs import with_cost
from weir.frontier_proxy.domain import AttemptUsage, Done, ForwardSpec, Switched
from weir.frontier_proxy.hedging import Hedges
from weir.frontier_proxy.ledger.base import Ledger
from weir.frontier_proxy.plan import Planner
from weir.frontier_proxy.race import Race
from weir.frontier_proxy.retries import RetryPolicy
from weir.frontier_proxy.selection import Candidate, all_open

log = structlog.get_logger(__name__)
C = ErrorCode
# The next candidate is tried after these; what a provider refused for its content is not shopped around.
_PASSING = {C.PROVIDER_FAILED, C.PROVIDER_AUTH, C.RATE_LIMITED, C.BUDGET_EXHAUSTED, C.COST_LIMIT}


@dataclass(frozen=True, slots=True)
class Means:
    """What answers are made with. ``continues``: another model goes on where a stream broke."""

    planner: Planner
    ledger: Ledger
    retries: RetryPolicy
    hedges: Hedges
    continues: bool


class Answer:
    """Streams one answer.

    Args:
        means: what it is made with.
        spec: what is asked.
        residency: what may leave; it holds for every attempt alike.
        candidates: who may answer, the preferred first.
    """

    def __init__(
        self, means: Means, spec: ForwardSpec, residency: ResidencyName, candidates: Sequence[Candidate]
    ) -> None:
        self._means, self._spec, self._residency = means, spec, residency
        self._asked, self._candidates = spec, candidates
        self._route = deque(candidates)
        self._now = candidates[0]
        self._failures: Counter[int] = Counter()
        self._attempts: list[Attempt] = []
        self._race: Race | None = None
        self._sent: list[str] = []
        self._sent_tokens = 0
        self._broken: WeirError | None = None
        # The model whose text stands and why it ended, until another goes on from it.
        self._leaving: tuple[Candidate, WeirError] | None = None
        self._reader: Attempt | None = None
        self._begun, self._first_text_s = time.monotonic(), 0.0

    async def stream(self) -> AsyncGenerator[str | Switched | Done, None]:
        """Yield text, switches of models, and the end. Closing it stops everything that is under way."""
        try:
            while True:
                self._reader = None
                try:
                    self._reader = attempt = await self._start()
                    async with aclosing(attempt.texts()) as texts:
                        async for text in texts:
                            if self._leaving:
                                yield self._switched(*self._leaving)
                            self._first_text_s = self._first_text_s or time.monotonic() - self._begun
                            self._sent.append(text)
                            yield text
                    break
                except WeirError as error:
                    failure = error
                await self._go_on(failure)
            if self._leaving:
                yield self._switched(*self._leaving)
            if self._race:
                await self._race.paid()
            total = time.monotonic() - self._begun
            yield Done(attempt.finish, self._usage(), self._first_text_s, total)
        finally:
            await self._stop()

    async def _start(self) -> Attempt:
        """Begin the next attempt; returns the one to read from. Raises WeirError where none can begin."""
        attempt = await self._next()
        self._begin(attempt)
        hedges = self._means.hedges
        delay = None if self._sent or self._race else hedges.delay(self._now.times)
        if delay is None or not self._route:
            return attempt
        self._race = race = Race(attempt, hedges)
        leader = await race.leader(delay, self._hedge, self._begin)
        self._now = leader.plan.candidate
        if race.loser and race.loser.error is None:
            # It is as good as before for going on, should the leader break.
            self._route.append(race.loser.plan.candidate)
        return leader

    async def _next(self) -> Attempt:
        """Plan an attempt on the next candidate whose circuit admits one."""
        while self._route:
            self._now = self._route.popleft()
            if attempt := await self._planned(self._now):
                return attempt
        raise self._broken or all_open(self._candidates)

    async def _planned(self, candidate: Candidate, *, hedge: bool = False) -> Attempt | None:
        permit = candidate.breaker.admit()
        if permit is None:
            return None
        try:
            plan = await self._means.planner.plan(candidate, self._spec, self._residency, self._left_nano())
        except BaseException:
            permit.released()
            raise
        return Attempt(plan, permit, self._means.ledger, self._spec, hedge=hedge, ended=self._ended)

    def _begin(self, attempt: Attempt) -> None:
        if attempt.hedge:
            self._route.popleft()
        self._attempts.append(attempt)
        attempt.begin()

    def _ended(self, attempt: Attempt) -> None:
        self._means.hedges.spent(attempt.usage.cost_nano)

    def _left_nano(self) -> int | None:
        """Return what the cost limit leaves beside all attempts so far, those under way at their most."""
        limit = self._asked.max_cost_nano
        return None if limit is None else limit - sum(a.committed_nano for a in self._attempts)

    async def _hedge(self) -> Attempt | None:
        """Plan an attempt on the next candidate, where it is well and the request's money reaches."""
        if self._route[0].breaker.state is not CircuitState.CLOSED:
            return None
        try:
            return await self._planned(self._route[0], hedge=True)
        except WeirError:
            return None

    async def _go_on(self, error: WeirError) -> None:
        """Return where another attempt follows. Raises the error, with what was spent, where none does."""
        if self._sent:
            await self._continue(error)
        elif error.code in _PASSING:
            await self._try_again(error)
        else:
            await self._fail(error)

    async def _try_again(self, error: WeirError) -> None:
        left = self._now
        self._failures[id(left)] += 1
        delay = self._means.retries.delay(self._failures[id(left)], error, current_call().remaining())
        if "overdue" in error.metadata and self._route:
            # It has had its time; another model need not wait as long again.
            delay = None
        if delay is not None and left.breaker.open_for() <= delay:
            meters.retried(left, error.code)
            await asyncio.sleep(delay)
            self._route.appendleft(left)
        elif self._route:
            meters.fell_back(left, error.code)
        else:
            await self._fail(error)
        log.warning("trying_again", code=error.code, model=self._route[0].model, attempts=len(self._attempts))

    async def _continue(self, error: WeirError) -> None:
        """Ask the next candidate to go on from the text that was sent."""
        reader = self._reader
        if reader and reader.sent_text:
            self._broken, self._leaving = error, (reader.plan.candidate, error)
            self._sent_tokens += reader.usage.counts.completion - reader.usage.counts.reasoning
            self._spec = self._means.planner.continued(self._asked, "".join(self._sent), self._sent_tokens)
            self._route = deque(self._means.planner.fitting(self._route, self._spec))
        if error.code not in _PASSING and error.code is not C.STREAM_BROKEN:
            await self._fail(error)
        if not (self._route and self._means.continues):
            await self._fail(self._broken or error)
        log.warning("continuing", code=error.code, model=self._route[0].model, attempts=len(self._attempts))

    def _switched(self, left: Candidate, error: WeirError) -> Switched:
        self._leaving = None
        meters.switched(left, error.code)
        return Switched(left.model, self._now.model, error.code, error.hint, self._sent_tokens)

    async def _fail(self, error: WeirError) -> NoReturn:
        if self._race:
            await self._race.paid()
        raise with_cost(error, self._usage()) from None

    def _usage(self) -> tuple[AttemptUsage, ...]:
        return tuple(attempt.usage for attempt in self._attempts if attempt.begun)

    async def _stop(self) -> None:
        if running := [attempt for attempt in self._attempts if not attempt.over]:
            await asyncio.gather(*(attempt.stop() for attempt in running))
        if self._race:
            await self._race.paid()
