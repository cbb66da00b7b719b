"""One verified answer as it grows, round by round."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing

import structlog

from weir.common.config.model import LocalModel
from weir.common.errors import ErrorCode, WeirError
from weir.engines.base import SessionEngine
from weir.verifier import measures
from weir.verifier.deltas import Transcript
from weir.verifier.drafts import DraftStream
from weir.verifier.escalation import AcceptanceWindow
from weir.verifier.events import Attempt, Delta, Ending, Event, Finished, Handoff, Job
from weir.verifier.frontier import Frontier
from weir.verifier.rounds import Verification

log = structlog.get_logger(__name__)


class Answer:
    """The state of one request: its text, its counts, its times.

    Args:
        job: with ``max_tokens`` set.
        engine: the verifier's; for its codec and its name.
        frontier: where the rest may go.
        prompt_tokens: for the receipt.
        prices: of the verifier, for the receipt.
    """

    def __init__(
        self, job: Job, engine: SessionEngine, frontier: Frontier, prompt_tokens: int, prices: LocalModel
    ) -> None:
        self._job = job
        self._info = engine.info
        self._frontier = frontier
        self._prompt_tokens = prompt_tokens
        self._prices = prices
        self._limit = job.spec.sampling.max_tokens or 1
        self._window = AcceptanceWindow(job.window)
        self._may_escalate = job.escalate_below > 0 and frontier.may_take(job)
        self._begun = self._opened = time.monotonic()
        self._first: float | None = None
        self._rounds = 0
        self._transcript = Transcript(engine.codec, job.spec.sampling.stop)
        self._attempts: tuple[Attempt, ...] = ()
        self._handed_over = False
        self._parts: list[str] = []
        self.ending: Ending | None = None

    @property
    def text(self) -> str:
        """Everything sent so far."""
        return "".join(self._parts)

    def opened(self) -> None:
        """Note that the session is there: waiting ends, work begins."""
        self._opened = time.monotonic()

    async def stream(
        self, verification: Verification, drafts: DraftStream, local: AsyncExitStack
    ) -> AsyncGenerator[Event, None]:
        """Yield the answer; ``local`` holds session and drafts, and is closed once the frontier answers."""
        while self.ending is None:
            for delta in await self._round(verification, drafts):
                yield self._sent(delta)
            if self.ending is None and self._hopeless():
                async with aclosing(self._hand_over(local)) as rest:
                    async for event in rest:
                        yield event
        if not self._handed_over:
            for delta in self._transcript.close():
                yield self._sent(delta)
        yield self._finished(self.ending)

    async def _round(self, verification: Verification, drafts: DraftStream) -> list[Delta]:
        chunk = await drafts.next()
        left = self._limit - self._transcript.tokens
        drafted = chunk.tokens[:left]
        verdict = await verification.round(drafted, bonus=len(drafted) < left)
        self._rounds += 1
        self._window.add(len(drafted), verdict.accepted)
        measures.round_done(self._info.model, len(drafted), verdict.accepted)
        deltas = self._transcript.add(verdict.tokens)
        if verification.ended or self._transcript.stopped:
            self.ending = Ending.STOP
        elif self._transcript.tokens >= self._limit:
            self.ending = Ending.LENGTH
        else:
            await drafts.answer(chunk, verdict)
        return deltas

    def _hopeless(self) -> bool:
        return self._may_escalate and self._window.below(self._job.escalate_below)

    async def _hand_over(self, local: AsyncExitStack) -> AsyncGenerator[Event, None]:
        """Yield the frontier's part; where it fails before its first event, nothing has happened."""
        self._may_escalate = False
        left = self._limit - self._transcript.tokens
        try:
            async with aclosing(self._frontier.forward(self._job, self.text, left)) as events:
                async for event in events:
                    if not self._handed_over:
                        self._handed_over = True
                        await local.aclose()
                        yield self._handoff()
                    if isinstance(event, Delta):
                        yield self._sent(event)
                    else:
                        self.ending, self._attempts = event.ending, event.attempts
        except WeirError as error:
            if self._handed_over:
                raise WeirError(ErrorCode.STREAM_BROKEN, internal=str(error)) from error
            log.warning("frontier_refused", code=error.code, going_on="alone")

    def _handoff(self) -> Handoff:
        share, window = self._window.share or 0.0, self._job.window
        detail = (
            f"{share:.0%} of the last {window} drafted tokens were accepted, "
            f"below the {self._job.escalate_below:.0%} asked for"
        )
        return Handoff("low_acceptance", detail, self._transcript.tokens)

    def _sent(self, delta: Delta) -> Delta:
        if self._first is None:
            self._first = time.monotonic()
        self._parts.append(delta.text)
        return delta

    def _finished(self, ending: Ending) -> Finished:
        now = time.monotonic()
        return Finished(
            ending=ending,
            attempts=(self._own_attempt(), *self._attempts),
            rounds=self._rounds,
            queue_s=self._opened - self._begun,
            first_token_s=(self._first or now) - self._begun,
            total_s=now - self._begun,
        )

    def _own_attempt(self) -> Attempt:
        said = self._transcript.tokens
        cost = (
            self._prompt_tokens * self._prices.input_usd_per_million
            + said * self._prices.output_usd_per_million
        )
        return Attempt(
            model=self._info.model,
            prompt_tokens=self._prompt_tokens,
            completion_tokens=said,
            drafted_tokens=self._window.drafted,
            accepted_tokens=self._window.accepted,
            cost_usd=cost / 1e6,
            stand_in=self._info.stand_in,
        )
