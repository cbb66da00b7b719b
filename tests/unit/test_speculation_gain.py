"""The draft length that gains most: closed forms against plain sums and against trying every length."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.verifier.speculation.gain import (
    Costs,
    best_overlapped,
    best_sequential,
    expected_tokens,
    overlapped_rate,
    sequential_rate,
    stationary_length,
)

SHARES = st.one_of(st.sampled_from([0.0, 1e-9, 0.5, 1 - 1e-9, 1.0]), st.floats(0.0, 1.0))
SECONDS = st.floats(1e-5, 0.5)
COSTS = st.builds(
    Costs,
    draft_s=st.one_of(st.just(0.0), SECONDS),
    round_s=st.one_of(st.just(0.0), SECONDS),
    pass_s=SECONDS,
    token_s=st.one_of(st.just(0.0), SECONDS),
    width=st.integers(1, 16),
)


@given(SHARES, st.integers(0, 64))
def test_expected_tokens_are_those_of_the_geometric_series(alpha: float, length: int) -> None:
    series = math.fsum(alpha**index for index in range(length + 1))
    assert expected_tokens(alpha, length) == pytest.approx(series, rel=1e-9)


@given(SHARES, COSTS, st.integers(0, 64))
def test_the_closed_form_finds_the_best_of_all_lengths(alpha: float, costs: Costs, longest: int) -> None:
    best = best_sequential(alpha, costs, longest)
    rates = [sequential_rate(alpha, length, costs) for length in range(longest + 1)]
    assert 0 <= best.length <= longest
    assert best.rate == pytest.approx(max(rates), rel=1e-9)


@given(SHARES, COSTS, st.integers(0, 64))
def test_no_plan_is_slower_than_decoding_alone(alpha: float, costs: Costs, longest: int) -> None:
    alone = 1.0 / costs.verify_s(1)
    assert best_sequential(alpha, costs, longest).rate >= alone
    assert best_overlapped(alpha, costs, longest).rate >= alone


@given(st.floats(0.01, 0.999), st.floats(0.01, 1.0), st.floats(1e-4, 0.009))
def test_the_stationary_length_is_where_the_rate_is_highest(alpha: float, fixed: float, each: float) -> None:
    def rate(length: float) -> float:
        return (1.0 - math.pow(alpha, length + 1.0)) / (fixed + each * length)

    top = stationary_length(alpha, fixed, each)
    if top > 0.01:
        assert rate(top) >= rate(top - 0.01) * (1 - 1e-12)
        assert rate(top) >= rate(top + 0.01) * (1 - 1e-12)
    else:
        assert rate(0.0) >= rate(0.02) * (1 - 1e-12)


@given(COSTS)
def test_sure_drafts_that_cost_less_than_a_pass_are_as_long_as_they_may_be(costs: Costs) -> None:
    added = costs.draft_s + costs.token_s
    assert (stationary_length(1.0, costs.verify_s(1), added) == math.inf) == (costs.verify_s(1) > added)


def test_a_pass_of_a_least_width_takes_drafts_up_to_it_for_their_drafting_alone() -> None:
    narrow = Costs(draft_s=0.0096, round_s=0.002, pass_s=0.022, token_s=0.007, width=1)
    wide = Costs(draft_s=0.0096, round_s=0.002, pass_s=0.022, token_s=0.007, width=4)
    assert wide.verify_s(1) == wide.verify_s(4) == narrow.verify_s(4)
    assert best_sequential(0.8, wide, 16).length == 3
    assert best_sequential(0.3, wide, 16).length == 1


@given(st.integers(1, 16), COSTS)
def test_overlapped_rounds_that_always_stand_take_the_slower_part_alone(length: int, costs: Costs) -> None:
    slower = max((length + 1) * costs.draft_s, costs.verify_s(length + 1))
    assert overlapped_rate(1.0, length, costs) == pytest.approx((length + 1) / slower)


@given(st.integers(1, 16), COSTS)
def test_overlapped_rounds_that_never_stand_are_no_faster_than_taking_turns(
    length: int, costs: Costs
) -> None:
    assert overlapped_rate(0.0, length, costs) <= sequential_rate(0.0, length, costs) * (1 + 1e-12)
