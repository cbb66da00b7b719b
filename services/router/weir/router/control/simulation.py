"""A plant to try the law on: Poisson arrivals, a law of latency per tier, no queues; its time is virtual."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from weir.router.case import Bounds, Case, Estimate
from weir.router.control.controller import Controller
from weir.router.control.forecast import Choose, expected_quality
from weir.router.control.state import State
from weir.router.domain import Tier

# Share of the frontier's gain that the hybrid tier is taken to recover.
RECOVERED = 0.5


class VirtualClock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


@dataclass(frozen=True, slots=True)
class TierLaw:
    """How a tier answers: log-normal time to the first token, a cost, and how often it fails or escalates."""

    median_s: float
    cost_usd: float
    sigma: float = 0.3
    error_rate: float = 0.0
    escalation_rate: float = 0.0

    @property
    def mean_s(self) -> float:
        """Mean time to the first token."""
        return self.median_s * math.exp(self.sigma**2 / 2)

    def slower_than(self, seconds: float) -> float:
        """Return the share of its answers that take longer."""
        z = math.log(seconds / self.median_s) / self.sigma
        return self.error_rate + (1 - self.error_rate) * 0.5 * math.erfc(z / math.sqrt(2))


Plant = Mapping[Tier, TierLaw]
PLANT: Plant = {
    Tier.SLM: TierLaw(median_s=0.08, cost_usd=0.00002),
    Tier.HYBRID: TierLaw(median_s=0.15, cost_usd=0.0001),
    Tier.FRONTIER: TierLaw(median_s=0.35, cost_usd=0.004),
}


@dataclass(frozen=True, slots=True)
class Change:
    """From ``at`` on, one tier follows another law."""

    at: float
    tier: Tier
    law: TierLaw


@dataclass(frozen=True, slots=True)
class Look:
    """The state at one time, with the plant's true numbers under it: shares, slow answers, cost, quality."""

    at: float
    state: State
    shares: Mapping[Tier, float]
    slow: float
    cost_usd: float
    quality: float


@dataclass(slots=True)
class Run:
    """What happened."""

    looks: list[Look] = field(default_factory=list)
    answers: list[tuple[float, float]] = field(default_factory=list)

    def p95(self, start: float, end: float) -> float:
        """Return the p95 of the answers that began in a span of time, in seconds."""
        found = sorted(seconds for at, seconds in self.answers if start <= at < end)
        return found[math.ceil(0.95 * len(found)) - 1]

    def moves(self, start: float = 0.0, end: float = math.inf) -> list[Look]:
        """Return the looks at which the bounds had just moved."""
        return [
            b for a, b in pairwise(self.looks) if b.state.version != a.state.version and start <= b.at < end
        ]

    def reversals(self, start: float = 0.0, end: float = math.inf) -> int:
        """Return how often the dear tier's share turned around: overshoots, where it should go one way."""
        moves = self.moves(start, end)
        before = [look for look in self.looks if look.at < start] or self.looks[:1]
        course = [before[-1], *moves]
        steps = [b.shares[Tier.FRONTIER] - a.shares[Tier.FRONTIER] for a, b in pairwise(course)]
        signs = [math.copysign(1, step) for step in steps if abs(step) > 0.002]
        return sum(a != b for a, b in pairwise(signs))

    def settled(self, holds: Callable[[Look], bool], start: float, end: float = math.inf) -> float | None:
        """Return when a condition began to hold until ``end``, ``None`` if it never did."""
        since: float | None = None
        for look in self.looks:
            if start <= look.at < end:
                since = (look.at if since is None else since) if holds(look) else None
        return since


def cases(labels: Iterable[tuple[bool, bool]], count: int, seed: int) -> list[Case]:
    """Return requests like labeled ones.

    The complexity of a prompt that the small model answered is drawn from Beta(2, 5), of another from
    Beta(5, 2); so is the gain, which a strong model's right answer raises.
    """
    rng, known = random.Random(seed), list(labels)
    return [_case(rng, *rng.choice(known)) for _ in range(count)]


def _case(rng: random.Random, weak: bool, strong: bool) -> Case:
    complexity = rng.betavariate(2, 5) if weak else rng.betavariate(5, 2)
    gain = complexity * (rng.betavariate(5, 2) if strong else rng.betavariate(2, 5))
    fit = 1 - complexity
    qualities = {Tier.SLM: fit, Tier.HYBRID: fit + RECOVERED * gain, Tier.FRONTIER: fit + gain}
    estimates = {
        tier: Estimate(qualities[tier], PLANT[tier].mean_s, None, PLANT[tier].cost_usd) for tier in Tier
    }
    return Case(complexity, gain, tuple(Tier), estimates=estimates, latency_budget_s=None)


class Simulation:
    """One or several routers before one plant.

    Args:
        controllers: one per replica; arrivals fall on them at random.
        clock: theirs.
        population: the requests to draw from.
        plant: how the tiers answer at first.
        choose: who answers.
        rate: arrivals per second.
        seed: of all that is random.
    """

    def __init__(
        self,
        controllers: Sequence[Controller],
        clock: VirtualClock,
        population: Sequence[Case],
        choose: Choose,
        *,
        plant: Plant = PLANT,
        rate: float = 10.0,
        seed: int = 0,
    ) -> None:
        self._controllers, self._clock, self._population = controllers, clock, population
        self._plant, self._choose, self._rate = dict(plant), choose, rate
        self._rng = random.Random(seed)
        self._pending: list[tuple[float, int, Controller, Case, Tier, float, bool]] = []
        self._order = 0
        self._mixes: dict[Bounds, tuple[dict[Tier, float], float]] = {}
        self.run = Run()

    def until(self, end: float, changes: Sequence[Change] = (), every: float = 2.0) -> Run:
        """Let time pass; every controller looks once in ``every`` seconds."""
        left = sorted(changes, key=lambda change: change.at)
        while self._clock.now < end:
            self.pass_time(min(end, self._clock.now + every), left)
            for controller in self._controllers:
                controller.update()
            self.look()
        return self.run

    def pass_time(self, until: float, changes: list[Change]) -> None:
        """Let requests come and answers end; ``changes``, in order, lose those that took effect."""
        arrival = self._clock.now + self._rng.expovariate(self._rate)
        while arrival < until:
            while changes and changes[0].at <= arrival:
                change = changes.pop(0)
                self._plant[change.tier] = change.law
            self._arrive(arrival)
            arrival += self._rng.expovariate(self._rate)
        self._finish(until)
        self._clock.now = until

    def look(self) -> None:
        """Note the state and what it means for the whole population."""
        self.run.looks.append(self._look(self._clock.now))

    def _arrive(self, at: float) -> None:
        controller = self._rng.choice(self._controllers)
        case = replace(self._rng.choice(self._population))
        self._finish(at)
        tier = self._choose(case, controller.bounds())
        if tier is None:
            return
        law = self._plant[tier]
        failed = self._rng.random() < law.error_rate
        seconds = self._rng.lognormvariate(math.log(law.median_s), law.sigma)
        self.run.answers.append((at, math.inf if failed else seconds))
        self._order += 1
        heapq.heappush(self._pending, (at + seconds, self._order, controller, case, tier, seconds, failed))

    def _finish(self, now: float) -> None:
        while self._pending and self._pending[0][0] <= now:
            self._clock.now, _, controller, case, tier, seconds, failed = heapq.heappop(self._pending)
            law = self._plant[tier]
            controller.observe(
                case,
                tier,
                first_token_s=seconds,
                cost_usd=law.cost_usd,
                failed=failed,
                handed_over=self._rng.random() < law.escalation_rate,
            )

    def _look(self, at: float) -> Look:
        status = self._controllers[0].status()
        shares, quality = self._mix(self._controllers[0].bounds())
        target = status.law.metric.target * (1 + status.law.metric.band)
        return Look(
            at,
            status.state,
            shares,
            slow=sum(share * self._plant[tier].slower_than(target) for tier, share in shares.items()),
            cost_usd=sum(share * self._plant[tier].cost_usd for tier, share in shares.items()),
            quality=quality,
        )

    def _mix(self, bounds: Bounds) -> tuple[dict[Tier, float], float]:
        """Return the whole population's shares and mean expected quality under bounds."""
        if bounds not in self._mixes:
            tiers = [(case, self._choose(case, bounds)) for case in self._population]
            counts = {tier: sum(found is tier for _, found in tiers) / len(tiers) for tier in Tier}
            quality = sum(expected_quality(case, tier) for case, tier in tiers if tier) / len(tiers)
            self._mixes[bounds] = counts, quality
        return self._mixes[bounds]
