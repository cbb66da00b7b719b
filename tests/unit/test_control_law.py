"""The control law and its parts: what holds for any measurement."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weir.common.config import Settings
from weir.router.case import Bounds, Case, Estimate
from weir.router.control import trim
from weir.router.control.avoidance import avoided, wilson
from weir.router.control.change import SHORTEST, latest_regime
from weir.router.control.choice import chosen
from weir.router.control.forecast import Forecaster
from weir.router.control.law import LEAST_MOVE, QUALITY_SLACK, decide
from weir.router.control.metric import CostPerQuery, P95Latency
from weir.router.control.settings import Law, law
from weir.router.control.sketch import ACCURACY, Sketch
from weir.router.control.state import State, initial
from weir.router.control.summary import Measured, Summary, merged
from weir.router.domain import Tier

COSTS = {Tier.SLM: 0.0001, Tier.HYBRID: 0.0005, Tier.FRONTIER: 0.004}


def case(complexity: float, gain: float) -> Case:
    fit = 1 - complexity
    qualities = {Tier.SLM: fit, Tier.HYBRID: fit + gain / 2, Tier.FRONTIER: fit + gain}
    estimates = {tier: Estimate(qualities[tier], 0.1, None, COSTS[tier]) for tier in Tier}
    return Case(complexity, gain, tuple(Tier), estimates=estimates)


def measured(
    seconds: float, count: int = 200, *, failed: float = 0.0, cost: float = 0.001, handed_over: float = 0.0
) -> Measured:
    """``count`` attempts that took as long, but for a share that failed."""
    times = np.array([math.inf if i < failed * count else seconds for i in range(count)])
    return Measured(
        Sketch.of(times, np.ones(count)), count, count, count, handed_over * count, cost * count, cost * count
    )


CASES = [case(i / 60, 0.6 * i / 60) for i in range(60)]
LAW = Law(home=Bounds(), metric=P95Latency(0.5, 0.1), dwell_s=10)
START = initial(LAW.home)
tier_states = st.builds(
    measured,
    st.floats(0.01, 3),
    st.integers(0, 400),
    failed=st.floats(0, 1),
    cost=st.floats(0, 0.01),
    handed_over=st.floats(0, 1),
)
summaries = st.builds(
    lambda slm, hybrid, frontier, answered: Summary(
        {Tier.SLM: slm, Tier.HYBRID: hybrid, Tier.FRONTIER: frontier}, answered, CASES
    ),
    tier_states,
    tier_states,
    tier_states,
    tier_states,
)
laws = st.builds(
    lambda metric, reach, floor: replace(LAW, metric=metric, reach=reach, quality_floor=floor),
    st.sampled_from([P95Latency(0.5, 0.1), CostPerQuery(0.0005, 0.1)]),
    st.floats(0.02, 0.6),
    st.none() | st.floats(0.3, 0.9),
)
courses = st.lists(st.tuples(summaries, st.floats(0.5, 20)), min_size=1, max_size=3)


def follow(course: list[tuple[Summary, float]], by: Law) -> list[tuple[float, Summary, State]]:
    state, now, steps = initial(by.home), 100.0, []
    for summary, wait in course:
        now += wait
        state = decide(by, state, summary, chosen, now)
        steps.append((now, summary, state))
    return steps


@settings(max_examples=15, deadline=None)
@given(courses, laws)
def test_thresholds_never_leave_their_reach(course: list[tuple[Summary, float]], by: Law) -> None:
    for _, _, state in follow(course, by):
        for value, home in ((state.complexity, 0.72), (state.confidence, 0.65)):
            assert max(0.0, home - by.reach) - 1e-9 <= value <= min(1.0, home + by.reach) + 1e-9
        assert state.quality == by.home.quality


@settings(max_examples=15, deadline=None)
@given(courses, laws)
def test_no_two_moves_are_closer_than_the_dwell_time(course: list[tuple[Summary, float]], by: Law) -> None:
    times = sorted({state.moved_at for _, _, state in follow(course, by) if state.version})
    assert all(later - earlier >= by.dwell_s for earlier, later in pairwise(times))


@settings(max_examples=15, deadline=None)
@given(summaries, laws)
def test_no_move_takes_quality_below_its_floor(summary: Summary, by: Law) -> None:
    state = decide(by, initial(by.home), summary, chosen, 100.0)
    forecast = Forecaster(summary, chosen, state.slow_before)
    usual = forecast(by.home).quality
    floor = usual - QUALITY_SLACK if by.quality_floor is None else min(by.quality_floor, usual)
    assert forecast(state.bounds(by.home)).quality >= floor - 1e-9


@given(st.lists(st.tuples(st.floats(-1e3, 1e3), st.floats(0, 10), st.booleans()), max_size=50))
def test_correction_is_bounded_and_does_not_wind_up(course: list[tuple[float, float, bool]]) -> None:
    integral = 0.0
    for error, windows, saturated in course:
        before = integral
        integral, output = trim.step(integral, error, windows, trim.Range(), saturated=saturated)
        assert 0 <= integral <= trim.LARGEST
        assert 0 <= output <= trim.LARGEST
        if saturated and error > 0:
            assert integral == before


def test_correction_leaves_its_limit_at_once_when_the_error_turns() -> None:
    integral = 0.0
    for _ in range(100):
        integral, output = trim.step(integral, 1.0, 1.0, trim.Range(), saturated=False)
    assert output == trim.LARGEST
    _, output = trim.step(integral, -1.0, 1.0, trim.Range(), saturated=False)
    assert output == 0


def test_slow_tier_keeps_less_than_a_twentieth_of_the_answers() -> None:
    summary = Summary(
        {Tier.SLM: measured(0.1), Tier.HYBRID: measured(0.2), Tier.FRONTIER: measured(1.5)}, cases=CASES * 8
    )
    state = decide(LAW, START, summary, chosen, 100.0)
    forecast = Forecaster(summary, chosen, state.slow_before)
    assert state.phase == "relieving"
    assert forecast(LAW.home).slow(0.5)[0] > 0.05
    assert forecast(state.bounds(LAW.home)).slow(0.5)[0] < 0.05
    assert "past 0.5 s" in state.moves[0].reason


def test_nothing_moves_when_all_tiers_are_equally_slow() -> None:
    summary = Summary({tier: measured(2.0) for tier in Tier}, cases=CASES)
    state = decide(LAW, START, summary, chosen, 100.0)
    assert (state.version, state.phase) == (0, "at_bound")


def test_floor_that_forbids_relief_is_named() -> None:
    summary = Summary(
        {Tier.SLM: measured(0.1), Tier.HYBRID: measured(0.2), Tier.FRONTIER: measured(1.5)}, cases=CASES * 8
    )
    usual = Forecaster(summary, chosen, {})(LAW.home).quality
    state = decide(replace(LAW, quality_floor=usual), START, summary, chosen, 100.0)
    assert (state.version, state.phase) == (0, "at_quality_floor")


def test_few_answers_move_nothing() -> None:
    tiers = {tier: measured(5.0, count=6) for tier in Tier}
    assert decide(LAW, START, Summary(tiers, cases=CASES), chosen, 100.0).phase == "waiting"


@pytest.mark.parametrize(("failed", "handed_over"), [(0.6, 0.0), (0.0, 0.9)])
def test_tier_that_fails_or_hands_over_too_often_keeps_a_probe_alone(
    failed: float, handed_over: float
) -> None:
    by = replace(LAW, metric=CostPerQuery(math.inf, 0.1), reach=0.3)
    summary = Summary(
        {
            Tier.SLM: measured(0.1),
            Tier.HYBRID: measured(0.2),
            Tier.FRONTIER: measured(0.3, failed=failed, handed_over=handed_over),
        },
        cases=CASES * 4,
    )
    state = decide(by, START, summary, chosen, 100.0)
    assert state.avoided == {Tier.FRONTIER}
    assert Forecaster(summary, chosen, {})(state.bounds(by.home)).shares[Tier.FRONTIER] <= 0.04
    assert state.moves[0].reason.startswith("frontier fails in")


def test_avoided_tier_stays_so_until_it_is_surely_well() -> None:
    bad = avoided(frozenset(), {Tier.SLM: measured(0.1, failed=0.5)}, 0.2, 0.5)
    unsure = avoided(bad, {Tier.SLM: measured(0.1, count=3)}, 0.2, 0.5)
    well = avoided(unsure, {Tier.SLM: measured(0.1)}, 0.2, 0.5)
    assert bad == unsure == frozenset({Tier.SLM})
    assert not well


@given(st.floats(0, 1), st.floats(0.1, 1e4), st.floats(0, 5))
def test_score_interval_holds_the_rate(rate: float, attempts: float, errors: float) -> None:
    low, high = wilson(rate, attempts, -errors), wilson(rate, attempts, errors)
    assert -1e-9 <= low <= rate + 1e-9
    assert rate - 1e-9 <= high <= 1 + 1e-9


@pytest.mark.parametrize(("target", "dearer"), [(0.0004, False), (0.0034, True)])
def test_bar_moves_to_the_cost_that_is_held(target: float, dearer: bool) -> None:
    settings_ = Settings.model_validate({"routing": {"target": {"cost": target}}})
    by = law(settings_)
    summary = Summary({tier: measured(0.1, cost=COSTS[tier]) for tier in Tier}, cases=CASES * 4)
    before = Forecaster(summary, chosen, {})(by.home).cost_usd
    state = decide(by, initial(by.home), summary, chosen, 1000.0)
    after = Forecaster(summary, chosen, {})(state.bounds(by.home)).cost_usd
    assert by.level
    assert (after > before) is dearer
    assert after <= target
    assert abs(state.quality - by.home.quality) >= LEAST_MOVE


def test_bar_of_a_quality_target_stands() -> None:
    by = law(
        Settings.model_validate(
            {"routing": {"target": {"quality": 0.7}, "dynamic_adjustment": {"enabled": True}}}
        )
    )
    assert (by.active, by.home.mode, by.home.quality) == (False, "quality", 0.7)


@given(st.lists(st.floats(0.001, 100), min_size=1, max_size=200), st.floats(0.01, 1))
def test_sketch_quantile_is_as_close_as_it_says(values: list[float], share: float) -> None:
    found = Sketch.of(np.array(values), np.ones(len(values))).quantile(share)
    exact = sorted(values)[max(0, math.ceil(share * len(values) - 1e-9) - 1)]
    assert found == pytest.approx(exact, rel=ACCURACY * 1.01)


@given(st.lists(st.floats(0.001, 100), max_size=50), st.lists(st.floats(0.001, 100), max_size=50))
def test_merged_sketch_is_that_of_all_values(one: list[float], other: list[float]) -> None:
    whole = Sketch.of(np.array(one + other), np.ones(len(one) + len(other)))
    sum_of_both = Sketch.of(np.array(one), np.ones(len(one)))
    sum_of_both.merge(Sketch.of(np.array(other), np.ones(len(other))))
    assert sum_of_both.bins == pytest.approx(whole.bins)


def test_summary_survives_its_way_through_the_shared_store() -> None:
    summary = Summary({tier: measured(0.1, failed=0.1) for tier in Tier}, measured(0.2), CASES[:3])
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(summary), type=Summary) == summary
    assert merged([summary, summary]).count == 2 * summary.count


def test_regime_begins_where_a_tier_slowed_down() -> None:
    rng = np.random.default_rng(3)
    quick, slow = rng.lognormal(-2, 0.3, 200), rng.lognormal(-0.9, 0.3, 40)
    start = latest_regime(np.concatenate([quick, slow]))
    assert 200 <= start <= 240 - SHORTEST
    assert latest_regime(quick) == 0
    assert latest_regime(np.full(20, np.inf)) == 0
