"""One attempt on one model: reserved before it is sent, priced when it ends, whatever ends it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import structlog

from weir.common.errors import ErrorCode, WeirError
from weir.frontier_proxy.domain import AttemptUsage, Finish, TokenCounts
from weir.frontier_proxy.estimates import prompt_bound, prompt_estimate, token_estimate
from weir.frontier_proxy.ledger.sqlite import Ledger
from weir.frontier_proxy.meters import AttemptTelemetry
from weir.frontier_proxy.providers.base import Finished, Pace, ProviderEvent, ProviderRequest
from weir.frontier_proxy.selection import Candidate
from weir.frontier_proxy.stages import Pipeline, Stop

log = structlog.get_logger(__name__)


class Attempt:
    """Streams the text of one attempt.

    Args:
        candidate: who answers.
        request: what is sent; its ``max_tokens`` is set.
        stages: what the text passes through; ``stop`` is the one of them that may end it early.
        capped: whether the cost limit, not the caller, set ``max_tokens``.
    """

    def __init__(
        self, candidate: Candidate, request: ProviderRequest, stages: Pipeline, stop: Stop, *, capped: bool
    ) -> None:
        self._candidate, self._request, self._capped = candidate, request, capped
        self._stages, self._stop = stages, stop
        self._received = ""
        self._answered = False
        self._counts: TokenCounts | None = None
        self._complete = False
        self.finish = Finish.STOP
        self.begun = False
        self.sent_text = False
        self.usage = AttemptUsage(
            request.model, candidate.provider.access.name, stand_in=candidate.provider.stand_in
        )

    async def texts(self, ledger: Ledger, tenant: str, request_id: str) -> AsyncGenerator[str, None]:
        """Yield new text; afterwards ``usage`` and ``finish`` are set.

        Raises WeirError: BUDGET_EXHAUSTED before anything is sent, what the provider raises, and
        STREAM_BROKEN for failures after the first text.
        """
        price = self._candidate.price
        bound = price.bound(prompt_bound(self._request), self._request.sampling.max_tokens or 0)
        if self._candidate.provider.stand_in:
            bound = 0
        reservation = await ledger.reserve(tenant, self._request.model, bound, request_id) if bound else None
        self.begun = True
        telemetry = AttemptTelemetry(
            self.usage.provider, self._request, stand_in=self._candidate.provider.stand_in
        )
        outcome = "cancelled"
        try:
            async with aclosing(self._run(telemetry)) as texts:
                async for text in texts:
                    yield text
            outcome = "stop" if self.finish is Finish.STOP else "length"
        except WeirError as error:
            outcome = error.code
            raise self._named(error) from None
        finally:
            self.usage = self._priced()
            telemetry.end(self.usage, outcome)
            if reservation:
                if self.usage.cost_nano > bound:
                    log.warning("cost_above_bound", model=self._request.model, bound_nano=bound)
                await ledger.settle(reservation, self.usage.cost_nano)

    async def _run(self, telemetry: AttemptTelemetry) -> AsyncGenerator[str, None]:
        provider = self._candidate.provider
        async with aclosing(paced(provider.stream(self._request), provider.access.pace)) as events:
            async for event in events:
                self._answered = True
                text = self._take(event)
                if text:
                    if not self.sent_text:
                        telemetry.first_text()
                    self.sent_text = True
                    yield text
                if self._stop.hit:
                    self.finish = Finish.STOP
                    return

    def _take(self, event: ProviderEvent) -> str:
        self._counts = event.counts or self._counts
        if not isinstance(event, Finished):
            self._received += event.text
            return self._stages.feed(event.text)
        self._complete = event.counts is not None
        if event.reason == "length":
            self.finish = Finish.BUDGET if self._capped else Finish.LENGTH
        return self._stages.flush()

    def _named(self, error: WeirError) -> WeirError:
        """Say STREAM_BROKEN where text has been sent; what a filter or the worker says stays as it is."""
        if not self.sent_text or error.code is not ErrorCode.PROVIDER_FAILED:
            return error
        return WeirError(
            ErrorCode.STREAM_BROKEN, error.hint, internal=error.internal, metadata=error.metadata
        )

    def _priced(self) -> AttemptUsage:
        """Return the usage: as reported, or estimated where the stream ended before its report."""
        counts = self._counts or TokenCounts()
        if not self._complete and self._answered:
            prompt = counts.prompt or prompt_estimate(self._request)
            # Output counts on the way, where there are any, lag behind the text that has come.
            completion = max(counts.completion, token_estimate(self._received))
            counts = TokenCounts(prompt, completion, counts.cached, counts.cache_write)
        stand_in = self._candidate.provider.stand_in
        cost = 0 if stand_in else self._candidate.price.cost(counts)
        return AttemptUsage(self._request.model, self.usage.provider, counts, cost, stand_in)


async def paced(
    events: AsyncGenerator[ProviderEvent, None], pace: Pace
) -> AsyncGenerator[ProviderEvent, None]:
    """Pass events on; raises WeirError PROVIDER_FAILED where the first text or the next one is overdue."""
    clock = asyncio.get_running_loop().time
    first = None if pace.first_token_s is None else clock() + pace.first_token_s
    started = False
    async with aclosing(events) as source:
        while True:
            between = None if pace.inter_token_s is None else clock() + pace.inter_token_s
            try:
                async with asyncio.timeout_at(between if started else first):
                    event = await anext(source, None)
            except TimeoutError:
                late = "next text" if started else "first text"
                raise WeirError(ErrorCode.PROVIDER_FAILED, f"The provider's {late} is overdue.") from None
            if event is None:
                return
            started = started or isinstance(event, Finished) or bool(event.text)
            yield event
