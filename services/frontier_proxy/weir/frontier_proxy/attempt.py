"""One attempt on one model: reserved before it is sent, priced when it ends, whatever ends it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import structlog

from weir.common.errors import ErrorCode, WeirError
from weir.frontier_proxy.bill import Bill
from weir.frontier_proxy.breaker import Permit
from weir.frontier_proxy.domain import AttemptUsage, Finish, ForwardSpec, TokenCounts
from weir.frontier_proxy.ledger.base import Charge, Ledger, Reservation
from weir.frontier_proxy.meters import AttemptTelemetry
from weir.frontier_proxy.outlet import Outlet
from weir.frontier_proxy.plan import Plan
from weir.frontier_proxy.providers.base import Delta, Finished
from weir.frontier_proxy.restart import NotContinuedError

log = structlog.get_logger(__name__)
C = ErrorCode
# A limit that is moved with each piece of text costs a timer each; so it may fall this much too early.
_TIMER_STEP_S = 0.01
# How often the event loop may turn, before a stream is closed, for what has arrived already to be counted.
_LAST_TURNS = 3


class Attempt:
    """Reads one provider's stream in a task of its own, so that two can race.

    Its permit ends with it, and so does its reservation: each exactly once.

    Args:
        plan: who answers, and what is sent.
        permit: the breaker's.
        ledger: where it is paid from.
        spec: the request it belongs to.
        hedge: whether it was sent while another was waited for.
        ended: is told once its usage is known.
    """

    def __init__(
        self,
        plan: Plan,
        permit: Permit,
        ledger: Ledger,
        spec: ForwardSpec,
        *,
        hedge: bool = False,
        ended: Callable[[Attempt], None] = lambda attempt: None,
    ) -> None:
        self.plan, self.hedge = plan, hedge
        self._permit, self._ledger, self._spec, self._told = permit, ledger, spec, ended
        self._task: asyncio.Task[None] | None = None
        self._outlet = Outlet()
        self._telemetry: AttemptTelemetry | None = None
        self._reservation: Reservation | None = None
        self._bill = Bill()
        self._over = self._stopping = False
        self._loop = asyncio.get_running_loop()
        self._begun_at = 0.0
        # Done once the first text is there or the attempt is over.
        self.decided: asyncio.Future[None] = self._loop.create_future()
        self.error: Exception | None = None
        self.finish = Finish.STOP
        self.begun = self.text_came = self.sent_text = False
        self.usage = self._used(TokenCounts(), 0)

    @property
    def committed_nano(self) -> int:
        """What it may still cost, and once it is over what it did."""
        return self.usage.cost_nano if self._over else self.plan.bound_nano

    @property
    def waited_s(self) -> float:
        """Seconds since it was sent."""
        return time.monotonic() - self._begun_at if self._begun_at else 0.0

    def begin(self) -> None:
        """Start reading."""
        self._task = asyncio.create_task(self._run())

    def drop(self) -> None:
        """Give up an attempt that has not begun."""
        self._permit.released()

    @property
    def over(self) -> bool:
        """Whether its end is known; its bill may still be on the way to the ledger."""
        return self._over

    def texts(self) -> AsyncGenerator[str, None]:
        """Yield new text; afterwards ``usage`` and ``finish`` are set.

        Raises WeirError: BUDGET_EXHAUSTED or LEDGER_UNAVAILABLE before anything is sent, what the provider
        raises, and STREAM_BROKEN for failures after the first text.
        """
        return self._outlet.texts()

    async def stop(self) -> None:
        """Close the provider's stream at once and settle; what has arrived by now is still counted."""
        if self._task is None or self._over:
            return
        first, self._stopping = not self._stopping, True
        try:
            self._outlet.discard()
            for _ in range(_LAST_TURNS if first else 0):
                await asyncio.sleep(0)
        finally:
            if first:
                self._task.cancel()
        await asyncio.wait([self._task])

    async def _run(self) -> None:
        outcome = "cancelled"
        try:
            await self._reserve()
            await self._read()
            outcome = "stop" if self.finish is Finish.STOP else "length"
        except WeirError as error:
            self.error, outcome = self._named(error), error.code
        except Exception as error:
            log.exception("attempt_failed", model=self.plan.request.model)
            self.error, outcome = error, C.INTERNAL
        finally:
            self._judge(outcome)
            self._price(outcome)
            self._over = True
            self._told(self)
            self._decide()
            self._outlet.close(self.error)
            if self._telemetry:
                # Behind what the client waits for.
                self._loop.call_soon(self._telemetry.end, self.usage, outcome)
            await self._settle()

    async def _reserve(self) -> None:
        request, provider = self.plan.request, self.plan.candidate.provider
        if not provider.stand_in:
            charge = Charge(
                self._spec.tenant,
                provider.access.account,
                request.model,
                self.plan.bound_nano,
                self._spec.request_id,
            )
            self._reservation = await self._ledger.reserve(charge)
        self.begun, self._begun_at = True, time.monotonic()
        self._telemetry = AttemptTelemetry(
            provider.access.name, request, stand_in=provider.stand_in, replay=provider.access.replay
        )

    async def _read(self) -> None:
        """Take the stream's events until its end. Raises WeirError PROVIDER_FAILED where text is overdue."""
        provider = self.plan.candidate.provider
        complete = False
        try:
            async with asyncio.timeout(provider.access.pace.first_token_s) as limit:
                async with aclosing(provider.stream(self.plan.request)) as events:
                    async for event in events:
                        complete = isinstance(event, Finished)
                        await self._take(event, limit)
                        if self.plan.stop.hit:
                            self.finish = Finish.STOP
                            return
        except TimeoutError:
            raise self._overdue() from None
        if not complete:
            raise WeirError(C.PROVIDER_FAILED, "The provider's answer broke off.")

    async def _take(self, event: Delta | Finished, limit: asyncio.Timeout) -> None:
        self._bill.add(event)
        if isinstance(event, Finished):
            if event.reason == "length":
                self.finish = Finish.BUDGET if self.plan.capped else Finish.LENGTH
            await self._pass_on(self.plan.stages.flush(), limit)
            # The bill takes a moment to be written; the text need not wait for it.
            self._outlet.flush()
            return
        if event.text:
            await self._pass_on(self.plan.stages.feed(event.text), limit)
            self._first_text()
        if event.text or event.unseen:
            self._allow(limit)

    async def _pass_on(self, text: str, limit: asyncio.Timeout) -> None:
        if not text:
            return
        self.sent_text = True
        if not self._outlet.put(text):
            # The provider is not to blame for a slow reader.
            limit.reschedule(None)
            await self._outlet.room()

    def _allow(self, limit: asyncio.Timeout) -> None:
        """Give the next text its time."""
        between = self.plan.candidate.provider.access.pace.inter_token_s
        if between is None:
            limit.reschedule(None)
            return
        due, set_for = self._loop.time() + between, limit.when()
        if set_for is None or abs(due - set_for) > _TIMER_STEP_S:
            limit.reschedule(due)

    def _first_text(self) -> None:
        if self.text_came:
            return
        self.text_came, waited = True, self.waited_s
        self._permit.first_text(waited)
        self.plan.candidate.times.add(waited)
        if self._telemetry:
            self._telemetry.first_text()
        self._decide()

    def _decide(self) -> None:
        if not self.decided.done():
            self.decided.set_result(None)

    def _overdue(self) -> WeirError:
        late = "next text" if self.text_came else "first text"
        # Nobody saw what became of the request: it may be charged.
        self._bill.answered = True
        return WeirError(C.PROVIDER_FAILED, f"The provider's {late} is overdue.", metadata={"overdue": late})

    def _named(self, error: WeirError) -> WeirError:
        """Say STREAM_BROKEN where text has been sent; what a filter or the worker says stays as it is."""
        if not self.sent_text or error.code is not C.PROVIDER_FAILED:
            return error
        return WeirError(C.STREAM_BROKEN, error.hint, internal=error.internal, metadata=error.metadata)

    def _judge(self, outcome: str) -> None:
        """Tell the breaker what the end says about the provider."""
        error = self.error
        if outcome in ("stop", "length", C.PROVIDER_REJECTED):
            self._permit.succeeded()
        elif not isinstance(error, WeirError) or isinstance(error, NotContinuedError):
            self._permit.released()
        elif error.code is C.RATE_LIMITED and error.retry_after_s:
            self._permit.rest(error.retry_after_s)
        elif error.code in (C.PROVIDER_FAILED, C.PROVIDER_AUTH, C.STREAM_BROKEN, C.RATE_LIMITED):
            self._permit.failed(error.code)
        else:
            self._permit.released()

    async def _settle(self) -> None:
        """Settle without keeping the client waiting for the disk.

        What is asked of the ledger from now on comes behind this; a crash before it is written costs the
        whole reservation.
        """
        if self._reservation is None:
            return
        try:
            await self._ledger.settle(self._reservation, self.usage.counts, self.usage.cost_nano)
        except WeirError as error:
            log.exception("settlement_failed", model=self.plan.request.model, code=error.code)

    def _price(self, outcome: str) -> None:
        if not self.begun:
            return
        self._bill.answered = self._bill.answered or outcome == "cancelled"
        counts = self._bill.counts(self.plan.request)
        stand_in = self.plan.candidate.provider.stand_in
        self.usage = self._used(counts, 0 if stand_in else self.plan.candidate.price.cost(counts))
        if self.usage.cost_nano > self.plan.bound_nano and not stand_in:
            log.warning("cost_above_bound", model=self.plan.request.model, bound_nano=self.plan.bound_nano)

    def _used(self, counts: TokenCounts, nano: int) -> AttemptUsage:
        provider = self.plan.candidate.provider
        return AttemptUsage(
            self.plan.request.model,
            provider.access.name,
            counts,
            nano,
            stand_in=provider.stand_in,
            replay=provider.access.replay,
        )
