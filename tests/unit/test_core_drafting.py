"""The distribution that a draft is drawn from."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.engines.core.drafting import shape_draft

IDS = [7, 3, 9, 1]
LOGPROBS = [math.log(p) for p in (0.5, 0.25, 0.15, 0.1)]


def test_temperature_one_keeps_the_probabilities() -> None:
    ids, q = shape_draft(IDS, LOGPROBS, 1.0)
    assert ids == IDS
    assert q == pytest.approx([0.5, 0.25, 0.15, 0.1])


def test_temperature_sharpens() -> None:
    _, q = shape_draft(IDS, LOGPROBS, 0.5)
    squares = np.square([0.5, 0.25, 0.15, 0.1])
    assert q == pytest.approx(squares / squares.sum())


def test_top_k_comes_before_top_p() -> None:
    ids, q = shape_draft(IDS, LOGPROBS, 1.0, top_p=0.7, top_k=3)
    # Of 0.5, 0.25, 0.15, renormalized, the first two have 0.83.
    assert ids == [7, 3]
    assert q == pytest.approx([2 / 3, 1 / 3])


@pytest.mark.parametrize(("top_p", "kept"), [(0.01, 1), (0.5, 1), (0.51, 2), (0.9, 3), (1.0, 4)])
def test_nucleus_is_the_shortest_prefix_that_reaches_its_mass(top_p: float, kept: int) -> None:
    assert len(shape_draft(IDS, LOGPROBS, 1.0, top_p=top_p)[0]) == kept


@given(
    st.lists(st.floats(-60, 0), min_size=1, max_size=16),
    st.floats(0.05, 2),
    st.floats(0.01, 1),
    st.integers(0, 20),
)
def test_every_shape_is_a_distribution(
    logprobs: list[float], temperature: float, top_p: float, top_k: int
) -> None:
    best_first = sorted(logprobs, reverse=True)
    ids, q = shape_draft(range(len(best_first)), best_first, temperature, top_p, top_k)
    assert len(ids) == len(q) > 0
    assert q.sum() == pytest.approx(1.0)
    assert (q > 0).all()
    assert ids == list(range(len(ids)))
