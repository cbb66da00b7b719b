"""Providers that play scripts and a ledger that keeps what it is told, around the real answers."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any

from weir.common.config.frontier import CircuitBreaker, Hedging, Retries
from weir.common.config.model import FrontierTier
from weir.common.errors import ErrorCode, WeirError
from weir.common.prompts import PromptSpec
from weir.engines.base import ChatMessage, Constraint, FinishReason, Sampling
from weir.frontier_proxy.answer import Answer, Means
from weir.frontier_proxy.breaker import Breaker
from weir.frontier_proxy.domain import Done, ForwardSpec, Switched, TokenCounts
from weir.frontier_proxy.hedging import Hedges
from weir.frontier_proxy.latency import FirstTextTimes
from weir.frontier_proxy.ledger.base import BudgetState, Charge, Ledger, Reservation, SpendQuery, SpendRow
from weir.frontier_proxy.plan import Planner
from weir.frontier_proxy.prices import ModelPrice
from weir.frontier_proxy.providers.base import (
    Access,
    Delta,
    Finished,
    Pace,
    ProviderEvent,
    ProviderRequest,
)
from weir.frontier_proxy.retries import RetryPolicy
from weir.frontier_proxy.selection import Candidate

# Text, an error, something to wait for, or the end with its counts.
Step = str | WeirError | asyncio.Event | TokenCounts
Script = Sequence[Step] | Callable[[ProviderRequest], Sequence[Step]]
END = TokenCounts(prompt=10, completion=5)


def broken() -> WeirError:
    """What a lost connection is."""
    return WeirError(ErrorCode.PROVIDER_FAILED, "The connection was lost.")


@dataclass
class Scripted:
    """Plays one script a request; it continues a prefix as its start where ``prefill`` is set."""

    name: str
    scripts: deque[Script] = field(default_factory=deque)
    prefill: bool = True
    pace: Pace = field(default_factory=Pace)
    requests: list[ProviderRequest] = field(default_factory=list)
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    stand_in = False
    max_stops = 4

    @property
    def access(self) -> Access:
        return Access(self.name, "openai_compatible", "http://provider.example/v1", pace=self.pace)

    def supports(self, constraint: Constraint) -> bool:
        del constraint
        return True

    def prefills(self, request: ProviderRequest) -> bool:
        return self.prefill and request.constraint is None

    async def stream(self, request: ProviderRequest) -> AsyncGenerator[ProviderEvent, None]:
        self.requests.append(request)
        self.asked.set()
        script = self.scripts.popleft()
        try:
            for step in script(request) if callable(script) else script:
                if isinstance(step, str):
                    yield Delta(step)
                elif isinstance(step, WeirError):
                    raise step
                elif isinstance(step, asyncio.Event):
                    await step.wait()
                else:
                    yield Finished(FinishReason.STOP, step)
        finally:
            self.closed.set()


@dataclass
class Kept:
    """A ledger in memory: every charge, and every settlement by its reservation."""

    charges: list[Charge] = field(default_factory=list)
    settled: list[tuple[int, TokenCounts, int]] = field(default_factory=list)

    async def start(self) -> None:
        """Nothing to open."""

    async def aclose(self) -> None:
        """Nothing to close."""

    async def reserve(self, charge: Charge) -> Reservation:
        await asyncio.sleep(0)
        self.charges.append(charge)
        return Reservation(len(self.charges) - 1, charge, date(2026, 1, 31))

    async def settle(self, reservation: Reservation, counts: TokenCounts, nano: int) -> None:
        self.settled.append((reservation.id, counts, nano))
        await asyncio.sleep(0)

    async def spend(self, query: SpendQuery) -> list[SpendRow]:
        del query
        return []

    async def budgets(self, tenant: str | None) -> list[BudgetState]:
        del tenant
        return []

    @property
    def balanced(self) -> bool:
        """Whether each reservation is settled exactly once."""
        return sorted(number for number, _, _ in self.settled) == list(range(len(self.charges)))

    @property
    def nano(self) -> int:
        return sum(nano for _, _, nano in self.settled)


def price(model: str, usd: int = 1) -> ModelPrice:
    """``usd`` per million tokens of any class, so a token costs ``usd`` thousand nano-dollars."""
    each = Decimal(usd)
    return ModelPrice(model, each, each, each, each, each, 100_000, "2026-01-31", "test")


def candidate(provider: Scripted, usd: int = 1, **circuit: Any) -> Candidate:
    """The provider's one model; its circuit stays closed unless told otherwise."""
    config = CircuitBreaker(**{"consecutive_failures": 1000, "min_calls": 1000, **circuit})
    return Candidate(provider, price(f"{provider.name}-model", usd), Breaker(config), FirstTextTimes(1))


def spec(**fields: Any) -> ForwardSpec:
    sampling = fields.pop("sampling", Sampling(max_tokens=100))
    content, constraint = fields.pop("content", "What is a weir?"), fields.pop("constraint", None)
    prompt = PromptSpec((ChatMessage("user", content),), sampling, constraint)
    return ForwardSpec("request-1", "acme", prompt, **fields)


def means(ledger: Ledger, *, per_model: int = 0, continues: bool = True, **hedging: Any) -> Means:
    """What answers are made with: no retries and no hedges unless told."""
    config = Hedging(**{"min_samples": 1, "min_delay_s": 0.001, "max_delay_s": 0.001, **hedging})
    retries = RetryPolicy(Retries(per_model=per_model, base_delay_s=0.001), random.Random(1))
    return Means(Planner(FrontierTier()), ledger, retries, Hedges(config), continues)


def scripted(name: str, *scripts: Script, **fields: Any) -> Scripted:
    return Scripted(name, deque(scripts), **fields)


def answer_of(made: Means, candidates: Sequence[Candidate], **fields: Any) -> Answer:
    residency = fields.pop("residency", "any")
    return Answer(made, spec(**fields), residency, candidates)


@dataclass
class Told:
    """What came out of an answer."""

    text: str = ""
    switches: list[Switched] = field(default_factory=list)
    done: Done | None = None


async def listen(answer: Answer) -> Told:
    """Read an answer to its end."""
    told = Told()
    async with aclosing(answer.stream()) as events:
        async for event in events:
            if isinstance(event, str):
                told.text += event
            elif isinstance(event, Switched):
                told.switches.append(event)
            else:
                told.done = event
    return told
