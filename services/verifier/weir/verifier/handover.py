"""Handing the rest of an answer to the frontier: when, at which place, and without a break in the text."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

import structlog

from weir.common.errors import ErrorCode, WeirError
from weir.verifier.escalation import Escalation, Why
from weir.verifier.events import Attempt, Delta, FrontierEnd, Handoff, Job, Residency
from weir.verifier.frontier import Frontier
from weir.verifier.rounds import Emitted

log = structlog.get_logger(__name__)
# Tokens for which a hand-over waits for the end of a word.
PATIENCE = 32
# What stands without white space before it, whatever the verifier had in mind.
_CLOSING = frozenset(",.;:!?)]}%'\N{RIGHT SINGLE QUOTATION MARK}\N{RIGHT DOUBLE QUOTATION MARK}»…")


@dataclass(frozen=True, slots=True)
class Seam:
    """Where the frontier takes over.

    Attributes:
        kept: deltas of the last round that are sent first.
        withheld: the rest of that round, sent only where the frontier refuses.
        gap: white space with which the verifier would have gone on.
    """

    kept: tuple[Delta, ...]
    withheld: tuple[Delta, ...] = ()
    gap: str = ""


def find_seam(
    said: str, deltas: Sequence[Delta], stop: Iterable[str], *, settled: bool, patient: bool
) -> Seam | None:
    """Return where the text may be handed over, if there is a good place at its present end.

    That is behind white space, or before a last delta that begins with some: a model that goes on from
    within a word tends to write the word anew, and one behind a word to leave out the space. No stop string
    may lie across the seam, because neither side would see it.

    Args:
        said: the text sent so far.
        deltas: of the last round, not sent yet.
        stop: the stop strings.
        settled: whether nothing that was generated is held back behind ``deltas``.
        patient: otherwise the end of any whole character does.
    """
    stops = tuple(stop)
    whole = said + "".join(delta.text for delta in deltas)
    ends_well = not whole or whole[-1].isspace() or not patient
    if settled and ends_well and not _begins_stop(whole, stops):
        return Seam(tuple(deltas))
    if not deltas:
        return None
    *kept, last = deltas
    gap = last.text[: len(last.text) - len(last.text.lstrip())]
    before = said + "".join(delta.text for delta in kept)
    if gap and before and not (_begins_stop(before, stops) or _begins_stop(before + gap, stops)):
        return Seam(tuple(kept), (last,), gap)
    return None


def _begins_stop(text: str, stops: Iterable[str]) -> bool:
    """Whether a stop string may have begun at the end of ``text``."""
    return any(text.endswith(stop[:size]) for stop in stops for size in range(1, len(stop)))


def joined(gap: str, text: str) -> str:
    """Return ``text`` with the white space that belongs before it."""
    closing = text[0] in _CLOSING and "\n" not in gap
    return text if text[0].isspace() or closing else gap + text


class Handover:
    """The one hand-over that an answer may have.

    Args:
        job: whose residency must allow it; otherwise it never comes.
        frontier: who writes the rest.
    """

    def __init__(self, job: Job, frontier: Frontier) -> None:
        self._job, self._frontier = job, frontier
        self._escalation = Escalation(job.window, job.escalate_below, job.escalate_unsure_below)
        self._open = self._escalation.possible and frontier.may_take(job)
        self._why: Why | None = None
        self._waited = 0
        self.taken = False
        # Of the frontier, failed attempts too.
        self.attempts: tuple[Attempt, ...] = ()

    def judged(self, drafted: int, accepted: int, tokens: Sequence[Emitted]) -> None:
        """Take one round: what was drafted, how many stood, and all tokens that it added."""
        if not self._open:
            return
        self._escalation.add(drafted, accepted, (math.exp(token.logprob) for token in tokens))
        self._why = self._escalation.why()
        self._waited = self._waited + len(tokens) if self._why else 0

    @property
    def due(self) -> bool:
        """Whether the rest is better left to the frontier, and may be."""
        return self._open and self._why is not None

    def seam(self, said: str, deltas: Sequence[Delta], *, settled: bool) -> Seam | None:
        """Return where to hand over, see ``find_seam``; ``None`` while it is not due or no place is good."""
        if not self.due:
            return None
        spec = self._job.spec
        # An answer held to a format is begun anew, so that any place does.
        patient = self._waited < PATIENCE and spec.constraint is None
        # Half a name or address is not recognized as one, so it would leave unredacted.
        patient = patient or self._job.residency is Residency.REDACTED
        return find_seam(said, deltas, spec.sampling.stop, settled=settled, patient=patient)

    async def rest(
        self,
        seam: Seam,
        said: str,
        kept_tokens: int,
        max_tokens: int,
        accepted: Callable[[], Awaitable[None]],
    ) -> AsyncGenerator[Handoff | Delta | FrontierEnd, None]:
        """Yield a ``Handoff`` and what the frontier writes, or nothing where it refuses.

        Args:
            seam: from ``seam``.
            said: all text sent, ``seam.kept`` included.
            kept_tokens: how many tokens that is.
            max_tokens: how many more there may be.
            accepted: awaited once the frontier's first event is there.

        Raises:
            WeirError: STREAM_BROKEN where the frontier fails after its first event. A failure before that
                has no effect but that it is not asked again.
        """
        self._open, gap = False, seam.gap
        try:
            async with aclosing(self._frontier.forward(self._job, said, max_tokens)) as events:
                async for event in events:
                    if not self.taken:
                        self.taken = True
                        await accepted()
                        yield self._handoff(kept_tokens)
                    if isinstance(event, FrontierEnd):
                        self.attempts = event.attempts
                    elif gap and isinstance(event, Delta) and event.text:
                        event, gap = replace(event, text=joined(gap, event.text)), ""
                    yield event
        except WeirError as error:
            if self.taken:
                raise WeirError(
                    ErrorCode.STREAM_BROKEN, internal=str(error), metadata=error.metadata
                ) from error
            self.attempts = _paid_for(error)
            log.warning("frontier_refused", code=error.code, going_on="alone")

    def _handoff(self, kept_tokens: int) -> Handoff:
        why = self._why or Why("", "")
        return Handoff(why.code, why.detail, kept_tokens)


def _paid_for(error: WeirError) -> tuple[Attempt, ...]:
    """Return what a refusal cost all the same, as the proxy tells it."""
    told = error.metadata
    if "cost_usd" not in told:
        return ()
    return (
        Attempt(
            model=told.get("model", ""),
            prompt_tokens=int(told.get("prompt_tokens", 0)),
            completion_tokens=int(told.get("completion_tokens", 0)),
            cost_usd=float(told["cost_usd"]),
            frontier=True,
        ),
    )
