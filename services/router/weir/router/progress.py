"""The account of one answer while it streams: what was sent, by whom, when, at what cost."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from weir.common.errors import WeirError
from weir.router import pricing
from weir.router.domain import Finish, Finished, Tier, TierFinished, Usage
from weir.router.planner import Plan
from weir.router.receipts.convert import Outcome
from weir.router.statistics import Answer
from weir.v1 import types_pb2


@dataclass(slots=True)
class Progress:
    """``started`` is the request's arrival and ``attempt_started`` that of the present attempt, monotonic."""

    started: float = field(default_factory=time.monotonic)
    attempt_started: float = 0.0
    tier: Tier | None = None
    first_token_at: float | None = None
    tokens: int = 0
    text: list[str] = field(default_factory=list)
    usage: list[Usage] = field(default_factory=list)
    finished: Finished | None = None
    valid: bool | None = None
    escalated: bool = False
    handovers: int = 0

    @property
    def sent(self) -> bool:
        """Whether the client has text, which stands from then on."""
        return self.first_token_at is not None

    @property
    def spent_usd(self) -> float:
        """Cost of all attempts so far."""
        return sum(usage.cost_usd for usage in self.usage)

    def begin(self, tier: Tier) -> None:
        """Note the start of an attempt."""
        self.tier = tier
        self.attempt_started = time.monotonic()

    def take(self, delta: types_pb2.TokenDelta, *, keep_text: bool) -> None:
        """Note a delta that is about to be sent."""
        if self.first_token_at is None and delta.text:
            self.first_token_at = time.monotonic()
        self.tokens += len(delta.tokens)
        if keep_text:
            self.text.append(delta.text)

    def lose(self, tier: Tier, model: str, error: WeirError) -> None:
        """Note what a failed attempt cost; its error tells, since no account of it comes."""
        told = error.metadata
        if "cost_usd" not in told:
            return
        self.usage.append(
            Usage(
                tier,
                model,
                prompt_tokens=int(told.get("prompt_tokens", 0)),
                completion_tokens=int(told.get("completion_tokens", 0)),
                cost_usd=float(told["cost_usd"]),
            )
        )

    def finish(self, plan: Plan, end: TierFinished, *, capped: bool) -> Finished:
        """Close the account."""
        now = time.monotonic()
        self.usage.extend(end.usage)
        self.tokens = self.tokens or sum(usage.completion_tokens for usage in self.usage)
        prompt = max([usage.prompt_tokens for usage in self.usage], default=0) or plan.facts.prompt_tokens
        self.finished = Finished(
            finish=Finish.BUDGET if capped and end.finish is Finish.LENGTH else end.finish,
            usage=tuple(self.usage),
            cost_usd=self.spent_usd,
            frontier_cost_usd=pricing.cost_usd(plan.states[Tier.FRONTIER], prompt, self.tokens),
            queue_s=end.queue_s,
            first_token_s=(self.first_token_at or now) - self.started,
            total_s=now - self.started,
            confidence=0.0 if self.valid is False else _confidence(plan, self.usage),
        )
        return self.finished

    def answer(self, tier: Tier, finished: Finished) -> Answer:
        """Return what the statistics learn: the tier's own times, without those of failed attempts."""
        waited = self.attempt_started - self.started
        return Answer(
            tier,
            first_token_s=finished.first_token_s - waited,
            total_s=finished.total_s - waited,
            completion_tokens=self.tokens,
            cost_usd=finished.cost_usd,
            schema_valid=self.valid,
        )

    def outcome(self, how: str) -> Outcome:
        """Return what the receipts keep."""
        first = None if self.first_token_at is None else self.first_token_at - self.started
        return Outcome(
            outcome=how,
            answered_by=self.tier.value if self.tier else "",
            completion_tokens=self.tokens,
            cost_usd=self.spent_usd,
            frontier_cost_usd=self.finished.frontier_cost_usd if self.finished else 0.0,
            first_token_s=first,
            total_s=time.monotonic() - self.started,
            valid=self.valid,
            handovers=self.handovers,
        )


def _confidence(plan: Plan, usage: list[Usage]) -> float:
    """See ``Finished.confidence``."""
    fit = 1 - plan.signal.complexity
    by_frontier = bool(usage) and usage[-1].tier is Tier.FRONTIER and not usage[-1].stand_in
    return min(1.0, max(0.0, fit + plan.signal.gain)) if by_frontier else fit
