"""Answering a request: one candidate after another, until one answers."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing

import structlog

from weir.common.coalesce import coalesce
from weir.common.config.base import ResidencyName
from weir.common.context import current_call
from weir.common.errors import ErrorCode, WeirError
from weir.frontier_proxy.attempt import Attempt
from weir.frontier_proxy.domain import AttemptUsage, Done, ForwardSpec, to_usd
from weir.frontier_proxy.ledger.sqlite import Ledger
from weir.frontier_proxy.plan import Planner
from weir.frontier_proxy.restart import NotContinuedError
from weir.frontier_proxy.selection import Candidate, Selection

log = structlog.get_logger(__name__)
C = ErrorCode
# The next candidate is tried after these; what a provider refused for its content is not shopped around.
_FALLBACK = {C.PROVIDER_FAILED, C.PROVIDER_AUTH, C.RATE_LIMITED, C.BUDGET_EXHAUSTED, C.COST_LIMIT}
# After these, and with no candidate left, the first one is tried once more.
_RETRY = {C.PROVIDER_FAILED, C.RATE_LIMITED}
RETRY_DELAY_S = 0.2
LONGEST_RETRY_DELAY_S = 2.0


class Forwarder:
    """Streams answers. ``default_residency`` is that of requests that state none."""

    def __init__(
        self, selection: Selection, ledger: Ledger, planner: Planner, *, default_residency: ResidencyName
    ) -> None:
        self._selection, self._ledger, self._planner = selection, ledger, planner
        self._default_residency = default_residency

    async def forward(self, spec: ForwardSpec) -> AsyncGenerator[str | Done, None]:
        """Yield new text, then one ``Done`` with the usage of every attempt.

        Raises:
            WeirError: RESIDENCY_FORBIDDEN, UNKNOWN_MODEL, CONTEXT_TOO_LONG, UNSUPPORTED, COST_LIMIT,
                BUDGET_EXHAUSTED, the PROVIDER_ codes, RATE_LIMITED, STREAM_BROKEN; what the attempts cost
                is in the metadata.
        """
        residency = spec.residency or self._default_residency
        if residency == "local_only":
            raise WeirError(C.RESIDENCY_FORBIDDEN, "The frontier proxy takes no LOCAL_ONLY request.")
        candidates = self._planner.eligible(self._selection.candidates(spec.model), spec)
        async with aclosing(
            _Answer(self._planner, self._ledger, spec, residency, candidates).stream()
        ) as events:
            async for event in events:
                yield event


class _Answer:
    """The attempts at one request, in order."""

    def __init__(
        self,
        planner: Planner,
        ledger: Ledger,
        spec: ForwardSpec,
        residency: ResidencyName,
        candidates: list[Candidate],
    ) -> None:
        self._planner, self._ledger = planner, ledger
        self._spec, self._residency = spec, residency
        self._first, self._queue = candidates[0], deque(candidates)
        self._retried = False
        self._spent: list[AttemptUsage] = []
        self._attempt: Attempt | None = None

    async def stream(self) -> AsyncGenerator[str | Done, None]:
        begun, first_text = time.monotonic(), 0.0
        while True:
            candidate = self._queue.popleft()
            try:
                async with aclosing(self._try(candidate)) as texts:
                    async for text in texts:
                        first_text = first_text or time.monotonic() - begun
                        yield text
            except WeirError as error:
                await self._go_on(candidate, error)
            else:
                break
        candidate.breaker.succeeded()
        if self._attempt:
            yield Done(self._attempt.finish, tuple(self._spent), first_text, time.monotonic() - begun)

    async def _try(self, candidate: Candidate) -> AsyncGenerator[str, None]:
        self._attempt = None
        attempt = await self._planner.attempt(candidate, self._spec, self._residency, self._spent)
        self._attempt = attempt
        try:
            parts = attempt.texts(self._ledger, self._spec.tenant, self._spec.request_id)
            texts = coalesce(parts, "".join)
            async with aclosing(texts) as pieces:
                async for text in pieces:
                    yield text
        finally:
            if attempt.begun:
                self._spent.append(attempt.usage)

    async def _go_on(self, candidate: Candidate, error: WeirError) -> None:
        """Return where another try follows. Raises the error, with what was spent, where none does."""
        _tell(candidate, error)
        if (self._attempt and self._attempt.sent_text) or error.code not in _FALLBACK:
            raise _with_cost(error, self._spent) from None
        if not self._queue and not self._retried and error.code in _RETRY:
            self._retried = True
            await self._wait(error)
        if not self._queue:
            raise _with_cost(error, self._spent) from None
        log.warning("trying_again", code=error.code, model=self._queue[0].model, attempts=len(self._spent))

    async def _wait(self, error: WeirError) -> None:
        """Queue the first candidate once more after a pause, where that and the deadline allow it."""
        delay = RETRY_DELAY_S if error.retry_after_s is None else error.retry_after_s
        left = current_call().remaining()
        if delay > LONGEST_RETRY_DELAY_S or self._first.breaker.open_for() > delay:
            return
        if left is None or left > 2 * delay:
            await asyncio.sleep(delay)
            self._queue.append(self._first)


def _tell(candidate: Candidate, error: WeirError) -> None:
    """Tell the breaker what the error says about the provider."""
    if isinstance(error, NotContinuedError):
        return
    if error.code in (C.PROVIDER_FAILED, C.PROVIDER_AUTH, C.STREAM_BROKEN):
        candidate.breaker.failed(error.code)
    elif error.code is C.RATE_LIMITED and (error.retry_after_s or 0) > LONGEST_RETRY_DELAY_S:
        candidate.breaker.rest(error.retry_after_s or 0)


def _with_cost(error: WeirError, spent: list[AttemptUsage]) -> WeirError:
    """Add what the attempts used: the caller's ledger gets it although no ``finished`` event comes."""
    if spent:
        error.metadata |= {
            "attempts": str(len(spent)),
            "cost_usd": format(sum(to_usd(usage.cost_nano) for usage in spent), ".9f"),
            "prompt_tokens": str(sum(usage.counts.prompt for usage in spent)),
            "completion_tokens": str(sum(usage.counts.completion for usage in spent)),
            "model": spent[-1].model,
        }
    return error
