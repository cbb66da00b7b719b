"""Routing and calibration measures, by hand and by property."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.router.training import metrics
from weir.router.training.metrics import Bools, Floats

Case = tuple[Floats, Bools, Bools]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Scores and outcomes in which the strong model is better in sum."""
    rows = draw(
        st.lists(st.tuples(st.integers(0, 9), st.booleans(), st.booleans()), min_size=2, max_size=60).filter(
            lambda found: sum(s for _, _, s in found) > sum(w for _, w, _ in found)
        )
    )
    score, weak, strong = (np.array(column) for column in zip(*rows, strict=True))
    return score.astype(float), weak.astype(bool), strong.astype(bool)


def test_gap_of_four_rows_by_hand() -> None:
    # Escalated in the order of the score: gains 1, 0, 1, -1 of a whole gap of 1 (of 4 rows).
    score = np.array([0.9, 0.7, 0.4, 0.1])
    weak, strong = np.array([False, True, False, True]), np.array([True, True, True, False])
    share, gap = metrics.recovered_gap(score, weak, strong)
    assert share.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert gap.tolist() == [0, 1, 1, 2, 1]
    assert metrics.apgr(score, weak, strong) == pytest.approx(0.25 * (0.5 + 1 + 1.5 + 1.5))
    assert metrics.cpt(score, weak, strong, 0.5) == pytest.approx(0.125)
    assert metrics.cpt(score, weak, strong, 0.8) == pytest.approx(0.2)


def test_cpt_takes_the_running_maximum() -> None:
    score = np.array([0.9, 0.8, 0.2, 0.1])
    weak, strong = np.array([True, False, False, False]), np.array([False, True, True, False])
    # Falls to -1 first, so that half of the gap is reached on the way from 0 to 1 alone.
    assert metrics.cpt(score, weak, strong, 0.5) == pytest.approx(0.625)


def test_models_of_equal_accuracy_leave_no_gap() -> None:
    with pytest.raises(ValueError, match="no gap"):
        metrics.apgr(np.array([1.0, 2.0]), np.array([True, False]), np.array([False, True]))


@given(cases())
def test_oracle_recovers_at_least_the_whole_gap_at_its_best(case: Case) -> None:
    _, weak, strong = case
    oracle = strong.astype(float) - weak
    assert metrics.recovered_gap(oracle, weak, strong)[1].max() >= 1
    assert metrics.apgr(oracle, weak, strong) >= metrics.apgr(case[0], weak, strong) - 1e-9
    assert metrics.apgr(oracle, weak, strong) >= 0.5


@given(cases())
def test_no_information_is_the_diagonal(case: Case) -> None:
    _, weak, strong = case
    same = np.zeros(len(weak))
    assert metrics.apgr(same, weak, strong) == pytest.approx(0.5)
    assert metrics.cpt(same, weak, strong, 0.8) == pytest.approx(0.8)


@given(cases())
def test_reversed_order_mirrors_the_area(case: Case) -> None:
    score, weak, strong = case
    forward, backward = metrics.apgr(score, weak, strong), metrics.apgr(-score, weak, strong)
    assert forward + backward == pytest.approx(1)


@given(cases(), st.floats(0.05, 0.9), st.floats(0.01, 0.1))
def test_a_higher_target_never_costs_less(case: Case, target: float, more: float) -> None:
    assert metrics.cpt(*case, target) <= metrics.cpt(*case, target + more)


@given(cases())
def test_only_the_order_of_scores_counts(case: Case) -> None:
    score, weak, strong = case
    assert metrics.apgr(np.exp(score), weak, strong) == pytest.approx(metrics.apgr(score, weak, strong))


def test_oracle_on_useful_escalations_is_above_one() -> None:
    weak, strong = np.array([False] * 2 + [True] * 6), np.array([True] * 2 + [True] * 5 + [False])
    assert metrics.apgr(strong.astype(float) - weak, weak, strong) > 1


def test_auroc_by_hand_with_a_tie() -> None:
    score = np.array([0.1, 0.4, 0.4, 0.8])
    assert metrics.auroc(score, np.array([False, False, True, True])) == pytest.approx(3.5 / 4)


def test_auroc_needs_both_outcomes() -> None:
    with pytest.raises(ValueError, match="both"):
        metrics.auroc(np.array([0.1, 0.2]), np.array([True, True]))


def test_ece_and_brier_by_hand() -> None:
    said, happened = np.array([0.2, 0.2, 0.9, 0.9]), np.array([False, True, True, True])
    assert metrics.ece(said, happened, bins=2) == pytest.approx((0.3 + 0.1) / 2)
    assert metrics.brier(said, happened) == pytest.approx((0.04 + 0.64 + 0.01 + 0.01) / 4)


def test_true_probabilities_have_small_ece() -> None:
    generator = np.random.default_rng(0)
    said = generator.random(20_000)
    assert metrics.ece(said, generator.random(20_000) < said) < 0.02


def test_perfect_probabilities_show_the_ece_of_chance() -> None:
    generator = np.random.default_rng(1)
    said = generator.random(1000)
    mean, most = metrics.ece_by_chance(said)
    seen = [metrics.ece(said, generator.random(1000) < said) for _ in range(200)]
    assert mean == pytest.approx(np.mean(seen), rel=0.1)
    assert np.mean(np.array(seen) < most) == pytest.approx(0.95, abs=0.05)


def test_bins_are_of_equal_mass() -> None:
    rows = metrics.reliability(np.linspace(0, 1, 31), np.zeros(31, bool))
    assert sorted({count for _, _, count in rows}) == [3, 4]


@given(cases())
def test_quality_runs_from_the_weak_to_the_strong_accuracy(case: Case) -> None:
    score, weak, strong = case
    share, right = metrics.quality(score, weak, strong)
    assert (share[0], share[-1]) == (0, 1)
    assert right[0] == pytest.approx(weak.mean())
    assert right[-1] == pytest.approx(strong.mean())


@given(cases())
def test_quality_is_the_recovered_gap_between_the_accuracies(case: Case) -> None:
    score, weak, strong = case
    share, gap = metrics.recovered_gap(score, weak, strong)
    same, right = metrics.quality(score, weak, strong)
    assert same.tolist() == share.tolist()
    assert right == pytest.approx(weak.mean() + gap * (strong.mean() - weak.mean()))


@given(st.floats(-50, 50), st.integers(0, 2**32 - 1))
def test_a_random_order_recovers_half_of_the_gap_in_the_mean(shift: float, seed: int) -> None:
    generator = np.random.default_rng(seed)
    weak, strong = np.arange(40) % 4 > 1, np.arange(40) % 4 > 0
    # An order and its reverse: the mean over all orders, from two of them.
    score = np.asarray(generator.permutation(40) + shift, np.float64)
    pair = metrics.apgr(score, weak, strong) + metrics.apgr(-score, weak, strong)
    assert pair / 2 == pytest.approx(0.5)


def test_least_escalation_by_hand() -> None:
    # 30 of 100 wrong, a tenth tolerated: after 200/9 escalations of wrong ones, 10 % of the rest is wrong.
    assert metrics.least_escalated(0.3, 0.1) == pytest.approx(2 / 9)
    assert metrics.least_escalated(0.05, 0.1) == 0


@given(cases(), st.floats(0, 0.9))
def test_no_order_escalates_less_than_the_least(case: Case, tolerated: float) -> None:
    score, weak, _ = case
    least = metrics.least_escalated(float((~weak).mean()), tolerated)
    assert metrics.escalated(score, ~weak, tolerated) >= least - 1e-9


def test_a_perfect_order_escalates_the_wrong_answers_alone() -> None:
    weak = np.arange(10) >= 3
    assert metrics.escalated((~weak).astype(float), ~weak, 0) == pytest.approx(0.3)
    assert metrics.escalated((~weak).astype(float), ~weak, 1) == 0
