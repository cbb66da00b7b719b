"""The controller before a simulated plant, by a virtual clock."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from weir.common.config import Settings
from weir.router.case import Case
from weir.router.control.choice import chosen
from weir.router.control.controller import Controller
from weir.router.control.law import QUALITY_SLACK
from weir.router.control.simulation import PLANT, Change, Run, Simulation, VirtualClock, cases
from weir.router.domain import Tier

SAMPLE = Path(__file__).parents[1] / "data" / "routing_sample.jsonl"
WINDOW, SLOW_AT, WELL_AT, END = 60.0, 120.0, 330.0, 560.0
EVERY_S = 5.0
FRONTIER = PLANT[Tier.FRONTIER]


@pytest.fixture(scope="module")
def population() -> list[Case]:
    rows = [json.loads(line) for line in SAMPLE.read_text().splitlines()]
    return cases([(row["weak_correct"], row["strong_correct"]) for row in rows], 600, seed=7)


def simulate(
    population: Sequence[Case],
    end: float,
    *changes: Change,
    adjustment: dict[str, Any] | None = None,
    target: dict[str, float] | None = None,
    seed: int = 1,
    rate: float = 10.0,
) -> tuple[Run, Controller]:
    dynamic = {"enabled": True, "window_seconds": WINDOW, "target": 0.6, **(adjustment or {})}
    settings = Settings.model_validate({"routing": {"dynamic_adjustment": dynamic, "target": target}})
    clock = VirtualClock()
    controller = Controller(settings, clock=clock)
    simulation = Simulation([controller], clock, population, chosen, rate=rate, seed=seed)
    return simulation.until(end, changes, every=EVERY_S), controller


@pytest.fixture(scope="module")
def slowed(population: list[Case]) -> Run:
    """A run in which the frontier takes three times as long for a while."""
    slow = replace(FRONTIER, median_s=3 * FRONTIER.median_s)
    changes = (Change(SLOW_AT, Tier.FRONTIER, slow), Change(WELL_AT, Tier.FRONTIER, FRONTIER))
    return simulate(population, END, *changes)[0]


def test_p95_is_back_in_the_band_within_one_window_of_a_tier_slowing_down(slowed: Run) -> None:
    since = slowed.settled(lambda look: look.slow <= 0.05, SLOW_AT, WELL_AT)
    assert since is not None
    assert since - SLOW_AT <= WINDOW
    assert slowed.p95(SLOW_AT - WINDOW, SLOW_AT) < 0.6
    assert slowed.p95(since, WELL_AT) < 0.66


def test_answer_to_a_slow_tier_overshoots_once_at_most(slowed: Run) -> None:
    assert slowed.moves(SLOW_AT, WELL_AT)
    assert slowed.reversals(SLOW_AT, WELL_AT) <= 1


def test_relief_keeps_quality_above_its_floor(slowed: Run) -> None:
    usual = slowed.looks[0].quality
    assert min(look.quality for look in slowed.looks) >= usual - QUALITY_SLACK - 0.01


def test_tier_that_recovered_gets_its_share_back(slowed: Run) -> None:
    last = slowed.looks[-1].state
    assert (last.complexity, last.confidence) == (0.72, 0.65)
    assert slowed.reversals(WELL_AT, END) == 0


def test_noise_alone_moves_nothing(population: list[Case]) -> None:
    run, controller = simulate(population, 300, seed=5)
    assert run.moves() == []
    assert controller.status().state.phase == "holding"


def test_quiet_service_waits_for_enough_answers(population: list[Case]) -> None:
    slow = {tier: replace(law, median_s=5.0) for tier, law in PLANT.items()}
    changes = [Change(0, tier, law) for tier, law in slow.items()]
    run, controller = simulate(population, 200, *changes, rate=0.1)
    assert run.moves() == []
    assert controller.status().state.phase == "waiting"


def test_dearer_tier_is_used_less_until_the_cost_is_held(population: list[Case]) -> None:
    dear = replace(FRONTIER, cost_usd=2 * FRONTIER.cost_usd)
    adjustment = {"metric": "cost_per_query", "target": 0.0009}
    run, _ = simulate(population, 300, Change(SLOW_AT, Tier.FRONTIER, dear), adjustment=adjustment)
    since = run.settled(lambda look: look.cost_usd <= 0.0009 * 1.1, SLOW_AT)
    assert run.moves(0, SLOW_AT) == []
    assert since is not None
    assert since - SLOW_AT <= 2 * WINDOW
    assert run.reversals(SLOW_AT) <= 1


def test_cost_target_is_held_from_both_sides(population: list[Case]) -> None:
    run, _ = simulate(population, 240, target={"cost": 0.0008})
    since = run.settled(lambda look: abs(look.cost_usd - 0.0008) <= 0.2 * 0.0008, 0)
    assert since is not None
    assert since <= 2 * WINDOW


def test_failing_tier_is_left_and_returned_to(population: list[Case]) -> None:
    failing = replace(FRONTIER, error_rate=0.7)
    changes = (Change(120, Tier.FRONTIER, failing), Change(220, Tier.FRONTIER, FRONTIER))
    adjustment = {"target": 5.0, "metric": "cost_per_query", "max_error_rate": 0.2}
    run, _ = simulate(population, 450, *changes, adjustment=adjustment)
    left = run.settled(lambda look: look.shares[Tier.FRONTIER] <= 0.06, 120, 220)
    assert left is not None
    assert left - 120 <= WINDOW
    assert run.looks[-1].state.complexity == 0.72


def test_disabled_controller_measures_and_moves_nothing(population: list[Case]) -> None:
    slow = Change(0, Tier.FRONTIER, replace(FRONTIER, median_s=5.0))
    run, controller = simulate(population, 60, slow, adjustment={"enabled": False})
    assert run.moves() == []
    status = controller.status()
    p95 = status.tiers[Tier.FRONTIER].sketch.quantile(0.95)
    assert p95 is not None
    assert math.isfinite(p95)
    assert not status.enabled
