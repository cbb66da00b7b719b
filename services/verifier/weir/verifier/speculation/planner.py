"""What the next round of an answer should be: how long a draft, or none. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from weir.engines.base import Pass
from weir.verifier.speculation.acceptance_rate import AnswerRates
from weir.verifier.speculation.gain import Best, Costs, best_overlapped, best_sequential, sequential_rate
from weir.verifier.speculation.guesses import Guesses
from weir.verifier.speculation.knowledge import Knowledge

# Drafting must promise so much more than decoding alone.
_MARGIN = 1.02
# Drafted tokens of a probe, tokens written alone before the first, and the most before another.
_PROBE_TOKENS = 2
_FIRST_GAP = 8
_LAST_GAP = 512
# Share of the time alone that probes may cost together.
_PROBE_SHARE = 0.02
# What is left of an answer's own evidence when it is probed.
_PROBE_TRUST = 0.5
# Passes to wait for company, where drafter and verifier share a processor and where they do not.
_PATIENCE = 4.0
_PATIENCE_APART = 1.0
# Tokens written alone before a chunk, past which its draft time tells of reading them, not of drafting.
_LONG_CORRECTION = 2


@dataclass(frozen=True, slots=True)
class Plan:
    """The next round.

    Attributes:
        tokens: wanted of the drafter; 0: the verifier decodes alone and its verdict is held back.
        chunks_ahead: chunks that the drafter may have without a verdict.
        bonus: whether the verifier adds its own token to a chunk that stands whole. Drawn, it would hardly be
            what a drafter that is ahead has drawn for the same place.
    """

    tokens: int
    chunks_ahead: int = 1
    bonus: bool = True


@dataclass(frozen=True, slots=True)
class Outcome:
    """A round as it went. Counts are of tokens, times in seconds.

    Attributes:
        method: of the chunk; empty where there was none.
        first: whether the chunk was the answer's first, for which the drafter read the prompt.
        drafted: in the chunk, without those said before it came.
        judged: of those, the ones on which a verdict fell.
        accepted: of those, the ones that stood.
        ids: said: the accepted and the verifier's own.
        draft_s: in the worker, drafting.
        wait_s: of the verifier for the chunk.
        verify_s: of the verifier for its forward pass.
        fed: in the pass, of this answer.
        cost: of the pass, as the engine measured it, others' tokens included.
    """

    method: str
    first: bool
    drafted: int
    judged: int
    accepted: int
    ids: tuple[int, ...]
    draft_s: float
    wait_s: float
    verify_s: float
    fed: int
    cost: Pass

    @property
    def produced(self) -> int:
        """Tokens said."""
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class Limits:
    """What the configuration says: a fixed draft length or "auto", and the longest; whether tokens are
    drawn, and whether to guess where there are no drafts."""

    draft_tokens: int | Literal["auto"]
    longest: int
    sampled: bool
    guesses: bool = True


class Pace:
    """The rounds of one answer: ``plan`` is the next one.

    The draft length is the one that maximizes the tokens per second that ``gain`` computes from the running
    acceptance and the measured costs. Where no draft pays the verifier goes on alone and probes now and then:
    after 8 tokens, then after twice as many each time, and never so often that probes cost more than 2 % of
    the time. A fixed length is kept as it is.

    Args:
        knowledge: of the process.
        limits: from the configuration.
        left: tokens that the answer may have.
        prompt_ids: for guesses.
    """

    def __init__(
        self, knowledge: Knowledge, limits: Limits, left: int, prompt_ids: Sequence[int] = ()
    ) -> None:
        self._knowledge, self._limits = knowledge, limits
        self._rates = AnswerRates(knowledge.rates)
        self._guesses = Guesses(prompt_ids, self._rates) if limits.guesses else None
        self._method = "model"
        self._overlapped = False
        self._gap, self._alone = _FIRST_GAP, 0
        self.plan = self._first(left)

    def advance(self, outcome: Outcome, left: int) -> None:
        """Take a round, and plan the next one of an answer that may have ``left`` more tokens."""
        self._learn(outcome)
        if self._guesses:
            self._guesses.said(outcome.ids)
        self.plan = self._next(left)

    @property
    def patience(self) -> float:
        """Passes for which to wait for other answers' drafts before a pass: few where drafts come as fast
        while a pass runs."""
        return _PATIENCE_APART if self._knowledge.overlap.pays else _PATIENCE

    def guesses(self, left: int) -> tuple[int, ...]:
        """Return what a pass without drafts should be fed beyond its token."""
        if self._guesses is None or left < 2:
            return ()
        return self._guesses.next(self._costs(overlapped=False), left - 1)

    def _first(self, left: int) -> Plan:
        """Plan the first round, which has a draft wherever ``left`` leaves room for one."""
        longest = min(self._limits.longest, left - 1)
        if longest < 1:
            return Plan(0)
        if self._limits.draft_tokens != "auto":
            return self._plan(min(self._limits.draft_tokens, longest))
        return self._plan(self._best(longest).length or min(_PROBE_TOKENS, longest))

    def _next(self, left: int) -> Plan:
        longest = min(self._limits.longest, left - 1)
        if longest < 1:
            return Plan(0)
        if self._limits.draft_tokens != "auto":
            return self._plan(min(self._limits.draft_tokens, longest))
        best = self._best(longest)
        if best.length:
            self._gap = max(_FIRST_GAP, self._gap // 2)
            return self._plan(best.length)
        if self._alone < max(self._gap, self._affordable_gap()):
            return Plan(0)
        self._gap = min(2 * self._gap, _LAST_GAP)
        self._rates.relax(self._method, _PROBE_TRUST)
        return self._plan(min(_PROBE_TOKENS, longest))

    def _learn(self, outcome: Outcome) -> None:
        knowledge = self._knowledge
        costs = knowledge.overlapped if self._overlapped else knowledge.sequential(knowledge.answers)
        costs.passes.observe(outcome.cost, outcome.fed, outcome.verify_s)
        if not outcome.method:
            self._alone += outcome.produced
            return
        if not outcome.first and self._alone <= _LONG_CORRECTION:
            waited = None if self._overlapped else outcome.wait_s
            costs.drafts(outcome.method).observe(outcome.drafted, outcome.draft_s, waited)
        self._alone = 0
        self._rates.judged(outcome.method, outcome.judged, outcome.accepted)
        # What was copied whole is likely to be copied on.
        copied = outcome.method == "lookup" and outcome.accepted == outcome.drafted
        self._method = "lookup" if copied else "model"
        if knowledge.answers <= 1:
            knowledge.overlap.round_done("model", self._rates.rate("model"), self._limits.longest)

    def _plan(self, tokens: int) -> Plan:
        self._overlapped = self._knowledge.overlap.on(self._knowledge.answers)
        if not self._overlapped:
            return Plan(tokens)
        # The token that the verifier adds is drafted as well.
        wanted = tokens if self._limits.sampled else tokens + 1
        return Plan(min(wanted, self._limits.longest), chunks_ahead=2, bonus=not self._limits.sampled)

    def _costs(self, *, overlapped: bool) -> Costs:
        knowledge = self._knowledge
        kind = knowledge.overlapped if overlapped else knowledge.sequential(knowledge.answers)
        return kind.of(self._method, knowledge.answers)

    def _best(self, longest: int) -> Best:
        """Return the best draft; of length 0 where none is worth its while."""
        knowledge = self._knowledge
        alpha = self._rates.rate(self._method)
        overlapped = knowledge.overlap.on(knowledge.answers)
        costs = self._costs(overlapped=overlapped)
        if knowledge.answers > 1:
            # Answers wait for each other: a chunk longer than the others' would hold them up.
            alpha = min(alpha, knowledge.rates.rate(self._method))
        best = (best_overlapped if overlapped else best_sequential)(alpha, costs, longest)
        alone = self._alone_rate(costs)
        return best if best.rate > _MARGIN * alone else Best(0, alone)

    def _alone_rate(self, costs: Costs) -> float:
        """Return the tokens per second without drafts."""
        if self._guesses is None:
            return 1.0 / costs.verify_s(1)
        return max(1.0 / costs.verify_s(1), self._guesses.gain / costs.verify_s(2))

    def _affordable_gap(self) -> float:
        """Return the tokens to write alone so that a probe after them costs its share of the time."""
        costs = self._costs(overlapped=False)
        alpha = self._rates.rate(self._method)
        alone_s = 1.0 / self._alone_rate(costs)
        # A probe's time beyond what its tokens would have taken alone.
        rate = sequential_rate(alpha, _PROBE_TOKENS, costs)
        probe_s = _PROBE_TOKENS * costs.draft_s + costs.round_s + costs.verify_s(_PROBE_TOKENS + 1)
        lost_s = probe_s - rate * probe_s * alone_s
        return math.ceil(max(0.0, lost_s) / (_PROBE_SHARE * alone_s))
