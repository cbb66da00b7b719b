"""One verified answer as it grows, round by round."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing

from weir.common.config.model import LocalModel
from weir.engines.base import SessionEngine
from weir.verifier.deltas import Transcript
from weir.verifier.drafts import Chunk, Drafts
from weir.verifier.events import Attempt, Delta, Ending, Event, Finished, FrontierEnd, Job
from weir.verifier.frontier import Frontier
from weir.verifier.handover import Handover, Seam
from weir.verifier.measures import Recorder, RoundFacts
from weir.verifier.rounds import Round, Verification
from weir.verifier.speculation.muster import Place
from weir.verifier.speculation.planner import Outcome, Pace
from weir.verifier.tally import Tally


class Answer:
    """The state of one request: its text, its counts, its times.

    Args:
        job: with ``max_tokens`` set.
        engine: the verifier's; for its codec and its name.
        frontier: where the rest may go.
        prompt_tokens: for the receipt.
        prices: of the verifier, for the receipt.
        recorder: is told every round.
    """

    def __init__(
        self,
        job: Job,
        engine: SessionEngine,
        frontier: Frontier,
        prompt_tokens: int,
        prices: LocalModel,
        recorder: Recorder,
    ) -> None:
        self._recorder = recorder
        self._info = engine.info
        self._prompt_tokens = prompt_tokens
        self._prices = prices
        self._limit = job.spec.sampling.max_tokens or 1
        self._handover = Handover(job, frontier)
        self._tally = Tally()
        self._begun = self._opened = time.monotonic()
        self._first: float | None = None
        self._transcript = Transcript(engine.codec, job.spec.sampling.stop)
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
        self, verification: Verification, drafts: Drafts, pace: Pace, local: AsyncExitStack, place: Place
    ) -> AsyncGenerator[Event, None]:
        """Yield the answer; ``local`` holds session and drafts, and is closed once the frontier answers."""
        while self.ending is None:
            deltas = await self._round(verification, drafts, pace, place)
            seam = self._seam(deltas)
            for delta in seam.kept if seam else deltas:
                yield self._sent(delta)
            if seam:
                async with aclosing(self._hand_over(seam, local)) as rest:
                    async for event in rest:
                        yield event
        if not self._handover.taken:
            for delta in self._transcript.close():
                yield self._sent(delta)
        yield self._finished(self.ending, drafts.level)

    async def _round(
        self, verification: Verification, drafts: Drafts, pace: Pace, place: Place
    ) -> list[Delta]:
        """Run one round; of its outcome the drafter learns first, so that it can go on."""
        left = self._limit - self._transcript.tokens
        plan = pace.plan
        chunk = await drafts.next() if plan.tokens else Chunk()
        drafted = chunk.tokens[:left]
        await place.ready(pace.patience)
        if drafted:
            verdict = await verification.round(drafted, bonus=plan.bonus and len(drafted) < left)
        else:
            verdict = await verification.alone(pace.guesses(left))
        place.took(verdict.forward_s)
        drafts.judged(chunk, verdict)
        outcome = _outcome(chunk, len(drafted), verdict)
        pace.advance(outcome, left - outcome.produced)
        # Answers that shared the pass ask together, so that their drafts share the drafter's passes.
        await asyncio.sleep(0)
        if not verification.ended:
            await (drafts.ask(pace.plan) if pace.plan.tokens else drafts.rest())
        self._note(chunk, verdict, outcome, drafts)
        deltas = self._transcript.add(verdict.tokens)
        if verification.ended or self._transcript.stopped:
            self.ending = Ending.STOP
        elif self._transcript.tokens >= self._limit:
            self.ending = Ending.LENGTH
        return deltas

    def _note(self, chunk: Chunk, verdict: Round, outcome: Outcome, drafts: Drafts) -> None:
        undrafted = "paused" if drafts.alive else "alone"
        self._tally.add(outcome, chunk.skipped)
        self._handover.judged(outcome.drafted, verdict.accepted, verdict.tokens)
        self._recorder.round_done(
            RoundFacts(
                method=outcome.method or undrafted,
                drafted=outcome.drafted,
                accepted=outcome.accepted,
                produced=outcome.produced,
                draft_s=outcome.draft_s,
                verify_s=outcome.verify_s,
                wait_s=outcome.wait_s,
                level=drafts.level,
            )
        )

    def _seam(self, deltas: list[Delta]) -> Seam | None:
        if self.ending is not None or not self._handover.due:
            return None
        return self._handover.seam(self.text, deltas, settled=self._transcript.settled)

    async def _hand_over(self, seam: Seam, local: AsyncExitStack) -> AsyncGenerator[Event, None]:
        """Yield the frontier's part; where it refuses, what was withheld for it, and all goes on."""
        withheld = sum(len(delta.tokens) for delta in seam.withheld)
        kept = self._transcript.tokens - withheld
        rest = self._handover.rest(seam, self.text, kept, self._limit - kept, local.aclose)
        async with aclosing(rest) as events:
            async for event in events:
                if isinstance(event, FrontierEnd):
                    self.ending = event.ending
                else:
                    yield self._sent(event) if isinstance(event, Delta) else event
        if not self._handover.taken:
            for delta in seam.withheld:
                yield self._sent(delta)

    def _sent(self, delta: Delta) -> Delta:
        if self._first is None:
            self._first = time.monotonic()
        self._parts.append(delta.text)
        self._tally.sent(delta)
        return delta

    def _finished(self, ending: Ending, level: str) -> Finished:
        now, theirs = time.monotonic(), self._handover.attempts
        return Finished(
            ending=ending,
            attempts=(self._own_attempt(), *theirs),
            rounds=self._tally.rounds,
            queue_s=self._opened - self._begun,
            first_token_s=(self._first or now) - self._begun,
            total_s=now - self._begun,
            stats=self._tally.stats(sum(attempt.completion_tokens for attempt in theirs), level),
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
            drafted_tokens=self._tally.drafted,
            accepted_tokens=self._tally.accepted,
            passes=self._tally.rounds,
            cost_usd=cost / 1e6,
            stand_in=self._info.stand_in,
        )


def _outcome(chunk: Chunk, drafted: int, verdict: Round) -> Outcome:
    return Outcome(
        method=chunk.method,
        first=chunk.sequence == 0,
        drafted=drafted,
        judged=verdict.judged,
        accepted=verdict.accepted,
        ids=tuple(token.id for token in verdict.tokens),
        draft_s=chunk.draft_s,
        wait_s=chunk.wait_s,
        verify_s=verdict.forward_s,
        fed=verdict.fed,
        cost=verdict.cost,
    )
