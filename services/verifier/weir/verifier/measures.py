"""The verifier's own metrics, and what they add to an inference span: counts and times, never text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from opentelemetry.util.types import AttributeValue

from weir.common import conventions as names
from weir.common.inference import Inference
from weir.common.telemetry import meter
from weir.engines.base import FinishReason
from weir.verifier.events import Delta, Ending, Event, Finished, Handoff, Source, Stats

# Rounds of one span event (the trace page keeps 64 entries of an array), and such events of one answer.
ROUNDS_AN_EVENT = 64
MAX_EVENTS = 48
# Positions in a chunk that have a label of their own; those behind share "17+".
POSITIONS = 16

_DRAFTED = meter().create_counter(names.VERIFY_DRAFTED, "{token}", "Tokens drafted.")
_ACCEPTED = meter().create_counter(names.VERIFY_ACCEPTED, "{token}", "Drafted tokens that stood.")
_ROUNDS = meter().create_counter(names.VERIFY_ROUNDS, "{round}", "Rounds by where their drafts came from.")
_PASSES = meter().create_counter(names.VERIFY_PASSES, "{pass}", "Forward passes behind the prompt's.")
_TOKENS = meter().create_counter(names.VERIFY_TOKENS, "{token}", "Tokens of answers by who wrote them.")
_SAVED = meter().create_counter(
    names.VERIFY_SAVED, "{token}", "Tokens of answers beyond one for each forward pass."
)
_JUDGED_AT = meter().create_counter(
    names.VERIFY_JUDGED_AT, "{token}", "Drafted tokens with a verdict, by position in their chunk."
)
_ACCEPTED_AT = meter().create_counter(
    names.VERIFY_ACCEPTED_AT, "{token}", "Drafted tokens that stood, by position in their chunk."
)
_SHARE = meter().create_histogram(
    names.VERIFY_SHARE,
    "1",
    "Accepted share of one answer's drafted tokens.",
    explicit_bucket_boundaries_advisory=[step / 10 for step in range(1, 11)],
)
_DRAFT_LENGTH = meter().create_histogram(
    names.VERIFY_DRAFT_LENGTH,
    "{token}",
    "Drafted tokens of one round.",
    explicit_bucket_boundaries_advisory=[0, 1, 2, 4, 8, 16, 32, 64],
)
_PART = meter().create_histogram(
    names.VERIFY_PART_DURATION, "s", "Time of one round's drafting, verification and waiting for drafts."
)
_ESCALATIONS = meter().create_counter(
    names.VERIFY_ESCALATIONS, "{answer}", "Answers handed to the frontier, by reason."
)
_VIOLATIONS = meter().create_counter(
    names.CONSTRAINT_VIOLATIONS, "{answer}", "Finished answers that break their output constraint."
)


@dataclass(frozen=True, slots=True)
class RoundFacts:
    """One round as it went. Counts are of tokens, times in seconds.

    Attributes:
        method: where the drafts came from: "model", "lookup", "paused" where none were wanted, or "alone"
            where there is no drafter.
        drafted: in the chunk, as far as they came to be judged.
        accepted: of those, the ones that stood.
        produced: the accepted and the verifier's own.
        draft_s: in the worker, drafting this chunk.
        verify_s: in the forward pass.
        wait_s: of the verifier for this chunk.
        level: at which drafts are judged: "token" or "text".
    """

    method: str
    drafted: int
    accepted: int
    produced: int
    draft_s: float = 0.0
    verify_s: float = 0.0
    wait_s: float = 0.0
    level: str = "token"


def rounds_done(model: str, rounds: Sequence[RoundFacts]) -> None:
    """Count rounds."""
    for (method, level), count in Counter((facts.method, facts.level) for facts in rounds).items():
        labels = {names.MODEL: model, names.DRAFT_METHOD: method, names.LEVEL: level}
        alike = [facts for facts in rounds if (facts.method, facts.level) == (method, level)]
        _ROUNDS.add(count, labels)
        if drafted := sum(facts.drafted for facts in alike):
            _DRAFTED.add(drafted, labels)
            _ACCEPTED.add(sum(facts.accepted for facts in alike), labels)
        for facts in alike:
            if facts.drafted:
                _DRAFT_LENGTH.record(facts.drafted, labels)
    for part in ("draft", "verify", "wait"):
        labels = {names.MODEL: model, names.PART: part}
        for seconds in (getattr(facts, f"{part}_s") for facts in rounds):
            if seconds > 0:
                _PART.record(seconds, labels)


class Recorder:
    """What one answer tells of itself, to the metrics and to its span.

    A context manager, left before the inference: leaving it tells the rounds that have not been told,
    whatever ended the answer.
    """

    def __init__(self, inference: Inference, model: str) -> None:
        self._inference = inference
        self._model = model
        self._rounds: list[RoundFacts] = []
        self._events = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._tell_rounds()

    def round_done(self, facts: RoundFacts) -> None:
        """Take one round; the metrics learn of it with others, since between rounds every moment counts."""
        self._rounds.append(facts)
        if len(self._rounds) == ROUNDS_AN_EVENT:
            self._tell_rounds()

    def note(self, event: Event) -> None:
        """Take one event of the answer."""
        if isinstance(event, Delta):
            self._inference.tokens(len(event.tokens) or 1)
        elif isinstance(event, Handoff):
            _ESCALATIONS.add(1, {names.MODEL: self._model, names.REASON: event.code})
            self._inference.span.add_event("handoff", {names.REASONS: event.code})
        else:
            self._finish(event)

    def _finish(self, event: Finished) -> None:
        own = event.attempts[0]
        reason = FinishReason.LENGTH if event.ending is Ending.LENGTH else FinishReason.STOP
        self._inference.finish(own.prompt_tokens, own.cached_prompt_tokens, own.completion_tokens, reason)
        self._inference.span.set_attributes(
            {
                names.TIER: "hybrid",
                names.ROUNDS: event.rounds,
                names.DRAFTED: own.drafted_tokens,
                names.ACCEPTED: own.accepted_tokens,
                **_attributes(event.stats),
            }
        )
        if own.drafted_tokens:
            labels = {names.MODEL: self._model, names.LEVEL: event.stats.level}
            _SHARE.record(own.accepted_tokens / own.drafted_tokens, labels)
        _count(self._model, event.stats)

    def _tell_rounds(self) -> None:
        rounds, self._rounds = self._rounds, []
        rounds_done(self._model, rounds)
        if not rounds or self._events == MAX_EVENTS:
            return
        self._events += 1
        self._inference.span.add_event(
            names.ROUNDS_EVENT,
            {
                names.ROUND_METHODS: [facts.method for facts in rounds],
                names.ROUND_DRAFTED: [facts.drafted for facts in rounds],
                names.ROUND_ACCEPTED: [facts.accepted for facts in rounds],
                names.ROUND_PRODUCED: [facts.produced for facts in rounds],
                names.ROUND_DRAFT_US: [round(facts.draft_s * 1e6) for facts in rounds],
                names.ROUND_VERIFY_US: [round(facts.verify_s * 1e6) for facts in rounds],
                names.ROUND_WAIT_US: [round(facts.wait_s * 1e6) for facts in rounds],
            },
        )


def _attributes(stats: Stats) -> dict[str, AttributeValue]:
    return {
        names.LEVEL: stats.level,
        names.PASSES: stats.passes,
        names.TOKENS_BY_SOURCE: [count for _, count in _by_source(stats)],
        names.JUDGED_BY_POSITION: list(stats.judged_by_position),
        names.ACCEPTED_BY_POSITION: list(stats.accepted_by_position),
    }


def _by_source(stats: Stats) -> list[tuple[Source, int]]:
    return [
        (Source.DRAFT, stats.draft_tokens),
        (Source.VERIFIER, stats.verifier_tokens),
        (Source.FRONTIER, stats.frontier_tokens),
    ]


def _count(model: str, stats: Stats) -> None:
    labels = {names.MODEL: model}
    _PASSES.add(stats.passes, labels)
    _SAVED.add(max(0, stats.draft_tokens + stats.verifier_tokens - stats.passes), labels)
    for source, count in _by_source(stats):
        if count:
            _TOKENS.add(count, {**labels, names.TOKEN_SOURCE: source.value})
    counters = ((_JUDGED_AT, stats.judged_by_position), (_ACCEPTED_AT, stats.accepted_by_position))
    for counter, counts in counters:
        for index, count in enumerate(counts):
            counter.add(count, {**labels, names.DRAFT_POSITION: _position(index)})


def _position(index: int) -> str:
    return str(index + 1) if index < POSITIONS else f"{POSITIONS + 1}+"


def constraint_broken(model: str) -> None:
    """Count an answer that does not keep its constraint."""
    _VIOLATIONS.add(1, {names.MODEL: model})
