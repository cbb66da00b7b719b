"""Distributions: truncation as defined, whatever the shortcuts; residuals; draws."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sampling_oracle import SIGNIFICANCE, p_value, reference
from weir.engines.base import Candidate, Sampling
from weir.verifier.distribution import (
    Distribution,
    Probabilities,
    Proposal,
    Shape,
    distribution,
    generator,
    log_probability,
)

SHAPES = st.builds(
    Shape,
    st.floats(0.05, 2),
    st.none() | st.integers(1, 60),
    st.none() | st.floats(0.01, 1),
)


def dense(of: Distribution, size: int) -> Probabilities:
    return np.array([of.of(token) for token in range(size)])


def shares(weights: list[int]) -> Probabilities:
    return np.array(weights, np.float64) / sum(weights)


def told(q: Probabilities) -> Proposal:
    return Proposal(np.flatnonzero(q), q[q > 0], float(q.max()))


@settings(deadline=None)
@given(
    # Few different values, so that many are equal where the cut falls.
    logits=st.lists(st.sampled_from([-math.inf, -3.0, -1.0, 0.0, 0.5, 2.0]), min_size=3, max_size=40).filter(
        lambda values: max(values) > -math.inf
    ),
    shape=SHAPES,
)
def test_truncation_is_as_defined_also_among_equals(logits: list[float], shape: Shape) -> None:
    row = np.array(logits, np.float32)
    got = dense(distribution(row, shape), len(row))
    assert got == pytest.approx(reference(row, shape), abs=1e-12)
    assert got.sum() == pytest.approx(1.0)


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10_000), size=st.integers(64, 8192), shape=SHAPES, spread=st.floats(0.1, 8))
def test_truncation_of_a_large_vocabulary_is_as_defined(
    seed: int, size: int, shape: Shape, spread: float
) -> None:
    row = (np.random.default_rng(seed).normal(size=size) * spread).astype(np.float32)
    expected = reference(row, shape)
    got = distribution(row, shape)
    for token in [*np.flatnonzero(expected)[:50], *np.argsort(expected)[:5], *np.argsort(-expected)[:5]]:
        assert got.of(int(token)) == pytest.approx(expected[token], abs=1e-9)


@given(
    p=st.lists(st.integers(0, 9), min_size=6, max_size=6).filter(any),
    q=st.lists(st.integers(0, 9), min_size=6, max_size=6).filter(any),
)
def test_the_residual_is_what_p_has_beyond_q(p: list[int], q: list[int]) -> None:
    over = np.maximum(shares(p) - shares(q), 0)
    expected = over / over.sum() if over.sum() > 1e-9 else shares(p)
    got = dense(Distribution(np.array(p, np.float64)).beyond(told(shares(q))), 6)
    assert got == pytest.approx(expected, abs=1e-6)


def test_the_residual_of_a_truncated_distribution_stays_within_it() -> None:
    cut = distribution(np.array([3, 2, 1, 0, -1], np.float32), Shape(1.0, top_k=2))
    rest = cut.beyond(Proposal(np.array([0, 4, 700]), np.array([0.5, 0.3, 0.2]), 0.5))
    assert dense(rest, 5)[2:].tolist() == [0, 0, 0]
    assert dense(rest, 5).sum() == pytest.approx(1)


@pytest.mark.parametrize("shape", [Shape(1.0), Shape(0.6, top_k=5), Shape(1.4, top_p=0.7)], ids=str)
def test_draws_follow_the_distribution(shape: Shape) -> None:
    row = np.random.default_rng(5).normal(size=12).astype(np.float32)
    drawn_from, rng = distribution(row, shape), generator(1)
    counts = np.bincount([drawn_from.draw(rng) for _ in range(5000)], minlength=12)
    assert p_value(counts, reference(row, shape)) > SIGNIFICANCE


class Highest(np.random.Generator):
    """Says the largest number below one."""

    def random(self, *_args: object, **_kwargs: object) -> float:  # type: ignore[override]
        return math.nextafter(1.0, 0.0)


def test_the_last_draw_never_falls_on_an_impossible_token() -> None:
    weights = np.array([0.1, 0.2, 0.7, 0.0])
    highest = Highest(np.random.PCG64(0))
    assert Distribution(weights).draw(highest) == 2
    assert Distribution(weights * 1e-300).draw(highest) == 2


def test_logits_without_a_finite_one_are_refused() -> None:
    with pytest.raises(ValueError, match="weight"):
        distribution(np.full(4, -np.inf, np.float32), Shape(1.0))


@given(st.lists(st.floats(-20, 20, width=32), min_size=2, max_size=30))
def test_log_probabilities_are_normalized(logits: list[float]) -> None:
    row = np.array(logits, np.float32)
    whole = math.fsum(math.exp(log_probability(row, token)) for token in range(len(row)))
    assert whole == pytest.approx(1.0)


@pytest.mark.parametrize(
    "candidates",
    [
        (),
        (Candidate(2, math.log(0.9)),),
        (Candidate(2, math.log(0.5)), Candidate(2, math.log(0.5))),
        (Candidate(1, 0.0),),
        (Candidate(2, math.nan), Candidate(3, 0.0)),
        (Candidate(2, 1e9), Candidate(3, 0.0)),
        (Candidate(2, -math.inf), Candidate(3, 0.0)),
    ],
    ids=["nothing", "a part", "one twice", "others alone", "nan", "too large", "impossible"],
)
def test_a_proposal_that_cannot_be_whole_is_not_taken_for_it(candidates: tuple[Candidate, ...]) -> None:
    assert Proposal.told(2, candidates) is None


def test_a_whole_proposal_is_renormalized() -> None:
    q = Proposal.told(2, (Candidate(2, math.log(0.75)), Candidate(9, math.log(0.25001))))
    assert q is not None
    assert q.share == pytest.approx(0.75, abs=1e-4)
    assert q.shares.sum() == pytest.approx(1, abs=1e-15)


def test_sampling_repeats_with_a_seed() -> None:
    first, second = generator(11), generator(11)
    uniform = Distribution(np.ones(8))
    assert [uniform.draw(first) for _ in range(20)] == [uniform.draw(second) for _ in range(20)]


def test_draws_are_independent_of_a_drafters_with_the_same_seed() -> None:
    assert generator(11).random() != np.random.default_rng(11).random()


def test_a_request_goes_over_the_tiers_sampling() -> None:
    assert Shape.of(Sampling(), 0.7, 0.9) == Shape(0.7, None, 0.9)
    assert Shape.of(Sampling(temperature=0.0, top_p=0.5, top_k=3), 0.7, 0.9) == Shape(0.0, 3, 0.5)
    assert Shape.of(Sampling(), None, None).greedy
    assert Shape.of(Sampling(temperature=1.0, top_k=1), None, None).greedy
