"""Comparing classifiers: agreement, and evidence that stays sound however often one looks."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.router.classifier.base import Assessment, Question
from weir.router.live.comparison import Agreement, Outcomes, worse_evidence
from weir.router.live.sampling import drawn


def assessment(complexity: float, gain: float = 0.0) -> Assessment:
    return Assessment(complexity, gain, 1, ())


def test_agreement_counts_prompts_on_the_same_side() -> None:
    seen = Agreement(threshold=0.7)
    for one, other in ((0.1, 0.5), (0.71, 0.9), (0.69, 0.7), (0.2, 0.2)):
        seen.add(assessment(one, 0.1), assessment(other, 0.3))
    assert seen.share == 0.75
    assert seen.complexity_difference == pytest.approx((0.4 + 0.19 + 0.01) / 4)
    assert seen.gain_difference == pytest.approx(0.2)


def test_nothing_compared_is_no_agreement() -> None:
    assert Agreement(0.7).share == 0.0


@given(st.integers(0, 500), st.integers(0, 500), st.integers(0, 500), st.integers(0, 500))
def test_a_canary_that_is_not_behind_gives_no_evidence(a: int, b: int, c: int, d: int) -> None:
    present, canary = Outcomes(a, b), Outcomes(c, d)
    if canary.rate >= present.rate:
        assert worse_evidence(present, canary) <= 0


@given(st.integers(20, 300), st.integers(20, 300))
def test_more_bad_answers_of_the_canary_are_more_evidence(good: int, bad: int) -> None:
    present = Outcomes(good * 4, bad)
    evidence = [worse_evidence(present, Outcomes(good, bad + more)) for more in (0, 50, 100, 200)]
    assert all(later >= earlier for earlier, later in pairwise(evidence))


def looks(random: np.random.Generator, present: float, canary: float, count: int, share: float) -> int | None:
    """Look after every answer; return at which the evidence sufficed at 5 %."""
    arms = (Outcomes(), Outcomes())
    for number in range(count):
        which = int(random.random() < share)
        arms[which].add(good=bool(random.random() < (present, canary)[which]))
        if worse_evidence(*arms) >= math.log(1 / 0.05):
            return number
    return None


@pytest.mark.parametrize(("rate", "share"), [(0.5, 0.5), (0.9, 0.1), (0.97, 0.5)])
def test_equal_arms_are_seldom_told_apart_at_any_look(rate: float, share: float) -> None:
    random = np.random.default_rng(11)
    alarms = sum(looks(random, rate, rate, 1_000, share) is not None for _ in range(150))
    # Two standard errors above 5 %.
    assert alarms / 150 <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 150)


def test_a_worse_canary_is_found() -> None:
    random = np.random.default_rng(12)
    found = [looks(random, 0.9, 0.6, 1_000, 0.2) for _ in range(20)]
    assert None not in found


@given(st.text(max_size=20), st.floats(0, 1), st.floats(0, 1))
def test_a_larger_share_keeps_who_was_drawn(key: str, one: float, other: float) -> None:
    question = Question("text", key=key)
    if drawn(question, min(one, other), "canary"):
        assert drawn(question, max(one, other), "canary")
    assert not drawn(question, 0, "canary")
    assert drawn(question, 1, "canary")


def test_the_share_is_about_what_was_asked_for_and_salts_are_independent() -> None:
    questions = [Question("text", key=str(number)) for number in range(4_000)]
    canary = np.array([drawn(question, 0.2, "canary") for question in questions])
    shadow = np.array([drawn(question, 0.2, "shadow") for question in questions])
    assert canary.mean() == pytest.approx(0.2, abs=0.02)
    assert (canary & shadow).mean() == pytest.approx(0.04, abs=0.012)
