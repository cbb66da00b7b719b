"""Planned rounds in a simulated world: near the best there is, and never much worse than no drafts."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from itertools import pairwise

import pytest

from weir.engines.base import Pass
from weir.verifier.speculation.gain import Costs, best_sequential
from weir.verifier.speculation.knowledge import Knowledge
from weir.verifier.speculation.overlap import Overlap
from weir.verifier.speculation.planner import Limits, Outcome, Pace, Plan

CPU = Costs(draft_s=0.0096, round_s=0.002, pass_s=0.022, token_s=0.007, width=4)
WIDE_GPU = Costs(draft_s=0.003, round_s=0.001, pass_s=0.02, token_s=0.0001)
SLOW_DRAFTER = Costs(draft_s=0.03, round_s=0.002, pass_s=0.022, token_s=0.007, width=4)
TOKENS = 128


@dataclass
class World:
    """Drafts that stand with one probability; ``contention`` slows overlapped rounds."""

    alpha: float
    costs: Costs
    overlap: Overlap = "off"
    contention: float = 1.0
    draft_tokens: int | str = "auto"
    sampled: bool = False
    rng: random.Random = field(default_factory=lambda: random.Random(5))
    seconds: float = 0.0
    said: int = 0
    plans: list[Plan] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.knowledge = Knowledge(self.overlap)

    def answers(self, count: int) -> World:
        for _ in range(count):
            with self.knowledge.answer():
                self._answer()
        return self

    def forget_times(self) -> World:
        self.seconds, self.said, self.plans = 0.0, 0, []
        return self

    @property
    def speedup(self) -> float:
        return self.said / self.seconds * self.costs.verify_s(1)

    def _answer(self) -> None:
        left, first, ready = TOKENS, True, False
        limits = Limits(self.draft_tokens, 16, self.sampled)  # type: ignore[arg-type]
        pace = Pace(self.knowledge, limits, left)
        while left > 0:
            outcome, ready = self._round(pace.plan, left, first=first, ready=ready)
            left, first = left - outcome.produced, False
            pace.advance(outcome, left)

    def _round(self, plan: Plan, left: int, *, first: bool, ready: bool) -> tuple[Outcome, bool]:
        self.plans.append(plan)
        drafted = min(plan.tokens, left)
        accepted = 0
        while accepted < drafted and self.rng.random() < self.alpha:
            accepted += 1
        slowed = self.rng.uniform(0.95, 1.05) * (self.contention if plan.chunks_ahead > 1 else 1.0)
        verify_s = slowed * self.costs.verify_s(drafted + 1)
        draft_s = slowed * drafted * self.costs.draft_s
        wait_s = max(0.0, draft_s - verify_s) if ready else draft_s + self.costs.round_s
        wait_s = wait_s if drafted else 0.0
        produced = min(accepted + 1, left)
        self.seconds, self.said = self.seconds + verify_s + wait_s, self.said + produced
        outcome = Outcome(
            method="model" if drafted else "",
            first=first,
            drafted=drafted,
            judged=min(accepted + 1, drafted),
            accepted=accepted,
            ids=tuple(self.rng.randrange(10**6) for _ in range(produced)),
            draft_s=draft_s,
            wait_s=wait_s,
            verify_s=verify_s,
            fed=drafted + 1,
            cost=Pass(verify_s, max(self.costs.width, drafted + 1), 1),
        )
        return outcome, plan.chunks_ahead > 1 and accepted == drafted


@pytest.mark.parametrize("costs", [CPU, WIDE_GPU, SLOW_DRAFTER])
@pytest.mark.parametrize("alpha", [0.6, 0.8, 0.9, 1.0])
def test_the_rate_comes_close_to_the_best_draft_length_there_is(alpha: float, costs: Costs) -> None:
    world = World(alpha, costs).answers(2).forget_times().answers(10)
    best = best_sequential(alpha, costs, 16).rate * costs.verify_s(1)
    assert world.speedup >= 0.93 * best


@pytest.mark.parametrize("costs", [CPU, WIDE_GPU, SLOW_DRAFTER])
@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.3])
def test_drafts_that_seldom_stand_cost_at_most_five_percent(alpha: float, costs: Costs) -> None:
    assert World(alpha, costs).answers(10).speedup >= 0.95


def test_a_hopeless_drafter_is_asked_ever_more_seldom() -> None:
    world = World(0.0, SLOW_DRAFTER).answers(3).forget_times().answers(1)
    asked = [index for index, plan in enumerate(world.plans) if plan.tokens]
    gaps = [later - earlier for earlier, later in pairwise(asked)]
    assert asked[0] == 0
    assert gaps == sorted(gaps)
    assert len(asked) <= 5


def test_drafting_comes_back_when_drafts_stand_again() -> None:
    world = World(0.0, CPU).answers(3)
    world.alpha = 0.9
    assert world.answers(3).forget_times().answers(3).speedup >= 1.8


def test_a_fixed_length_is_kept_and_never_passes_the_end() -> None:
    world = World(0.5, CPU, draft_tokens=4).answers(1)
    assert {plan.tokens for plan in world.plans} <= {0, 1, 2, 3, 4}
    assert world.plans[0].tokens == 4
    assert all(plan.tokens for plan in world.plans[:-1])


def test_an_answer_of_one_token_wants_no_draft() -> None:
    assert Pace(Knowledge("on"), Limits("auto", 16, sampled=False), 1).plan == Plan(0)


@pytest.mark.parametrize(("contention", "on"), [(1.0, True), (1.6, False)])
def test_overlap_is_kept_where_it_slows_neither_side(contention: float, on: bool) -> None:
    world = World(0.9, CPU, overlap="auto", contention=contention).answers(8)
    assert {plan.chunks_ahead for plan in world.plans} == {1, 2}
    world.forget_times().answers(1)
    assert {plan.chunks_ahead for plan in world.plans if plan.tokens} == {2 if on else 1}


def test_several_answers_at_once_take_turns() -> None:
    world = World(0.9, CPU, overlap="auto").answers(8)
    with world.knowledge.answer():
        world.forget_times().answers(1)
    assert {plan.chunks_ahead for plan in world.plans} == {1}


def test_a_drawn_answer_that_overlaps_has_no_bonus() -> None:
    world = World(0.9, CPU, overlap="on", sampled=True).answers(1)
    assert not any(plan.bonus for plan in world.plans if plan.tokens)
    assert all(plan.bonus for plan in World(0.9, CPU, overlap="on").answers(1).plans)
