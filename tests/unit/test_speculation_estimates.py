"""Costs and acceptance as they are learned: exact where the world is simple, sane where little is known."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.engines.base import Pass
from weir.verifier.speculation.acceptance_rate import AnswerRates, ServiceRates
from weir.verifier.speculation.costs import DraftCosts, PassCosts, RoundCosts


def _fitted(sizes: list[int], fixed: float, each: float, width: int = 1) -> PassCosts:
    costs = PassCosts()
    for fed in sizes:
        tokens = max(fed, width)
        seconds = fixed + each * tokens
        costs.observe(Pass(seconds, tokens, 1), fed, seconds)
    return costs


def test_passes_of_several_sizes_give_the_line_that_they_lie_on() -> None:
    costs = _fitted([1, 4, 5, 9, 16] * 20, 0.022, 0.007)
    fixed, each = costs.line()
    assert fixed == pytest.approx(0.022, rel=0.1)
    assert each == pytest.approx(0.007, rel=0.05)


@given(st.lists(st.tuples(st.integers(1, 64), st.floats(1e-4, 2.0)), max_size=30), st.integers(1, 64))
def test_whatever_was_measured_a_pass_takes_time_and_more_tokens_take_no_less(
    seen: list[tuple[int, float]], tokens: int
) -> None:
    costs = PassCosts()
    for size, seconds in seen:
        costs.observe(Pass(seconds, size, 1), size, seconds)
    fixed, each = costs.line()
    assert fixed >= -1e-12
    assert each >= 0.0
    assert costs.seconds(tokens) > 0.0


def test_the_least_width_is_what_the_engine_computed_beyond_what_it_was_given() -> None:
    assert _fitted([1, 2, 6, 3], 0.02, 0.01, width=4).width == 4
    assert _fitted([1, 2, 6, 3], 0.02, 0.01).width == 1


def test_a_pass_that_held_anothers_prompt_tells_nothing() -> None:
    costs = _fitted([1, 4, 8] * 10, 0.02, 0.005)
    before = costs.line()
    costs.observe(Pass(3.0, 700, 2), 4, 3.0)
    assert costs.line() == before


def test_costs_follow_a_machine_that_has_become_slower() -> None:
    costs = _fitted([1, 4, 8] * 100, 0.02, 0.005)
    for fed in [1, 4, 8] * 300:
        costs.observe(Pass(0.04 + 0.01 * fed, fed, 1), fed, 0.04 + 0.01 * fed)
    assert costs.seconds(4) == pytest.approx(0.08, rel=0.05)


def test_a_single_held_up_pass_counts_as_no_more_than_three() -> None:
    costs = _fitted([4] * 50, 0.02, 0.005)
    before = costs.seconds(4)
    costs.observe(Pass(10.0, 4, 1), 4, 10.0)
    assert costs.seconds(4) < 1.1 * before


def test_a_token_of_a_shared_pass_costs_each_answer_what_all_their_tokens_cost() -> None:
    costs = RoundCosts()
    for _ in range(200):
        costs.passes.observe(Pass(0.022 + 0.007 * 32, 32, 8), 4, 0.246)
        costs.passes.observe(Pass(0.022 + 0.007 * 16, 16, 8), 2, 0.134)
    alone, together = costs.of("model", 1), costs.of("model", 8)
    assert alone.token_s == pytest.approx(0.007, rel=0.05)
    assert together.token_s == pytest.approx(8 * alone.token_s, rel=0.05)
    assert together.pass_s == alone.pass_s


def test_a_pass_costs_its_caller_the_way_there_and_its_turn_too() -> None:
    costs = RoundCosts()
    for _ in range(100):
        costs.passes.observe(Pass(0.05, 4, 1), 4, 0.053)
    assert costs.of("model", 1).verify_s(4) == pytest.approx(0.053, rel=0.01)


def test_drafting_is_told_from_the_round_trip() -> None:
    costs = DraftCosts()
    for tokens in (2, 4, 8):
        costs.observe(tokens, 0.01 * tokens, 0.01 * tokens + 0.003)
    assert costs.step_s(1.0) == pytest.approx(0.01)
    assert costs.round_s == pytest.approx(0.003)


def test_a_running_rate_comes_to_the_true_one() -> None:
    rng, rates = random.Random(3), AnswerRates(ServiceRates())
    for _ in range(400):
        rates.judged("model", 1, int(rng.random() < 0.4))
    assert rates.rate("model") == pytest.approx(0.4, abs=0.12)


def test_a_new_answer_begins_with_what_the_others_saw() -> None:
    service = ServiceRates()
    first = AnswerRates(service)
    for _ in range(200):
        first.judged("model", 4, 1)
    assert AnswerRates(service).rate("model") == pytest.approx(0.25, abs=0.02)


def test_methods_are_rated_apart() -> None:
    rates = AnswerRates(ServiceRates())
    before = rates.rate("lookup")
    for _ in range(50):
        rates.judged("model", 1, 0)
    assert rates.rate("lookup") == before
    assert rates.rate("model") < 0.2


def test_relaxed_evidence_yields_sooner_to_new() -> None:
    stubborn, relaxed = AnswerRates(ServiceRates()), AnswerRates(ServiceRates())
    for rates in (stubborn, relaxed):
        rates.judged("model", 40, 0)
    relaxed.relax("model", 0.1)
    for rates in (stubborn, relaxed):
        rates.judged("model", 8, 8)
    assert relaxed.rate("model") > stubborn.rate("model")
