"""The form of a prompt in numbers: what each says, and that none runs away."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.router.classifier.form import FEATURES, MAX_CHARS, form_features


def of(text: str) -> dict[str, float]:
    return dict(zip(FEATURES, form_features(text).tolist(), strict=True))


def test_counts_words_numbers_and_lines() -> None:
    found = of("Ann has 3 pens.\nShe buys 1,200 more, 50% of them red (why?)")
    assert found["log_lines"] == pytest.approx(np.log(3))
    assert found["log_numbers"] == pytest.approx(np.log(4))
    assert found["log_largest_number"] == pytest.approx(np.log1p(1200))
    assert found["question_marks"] == 1
    assert found["lines_with_numbers"] == 1.0
    assert found["percents"] > 0 == found["dollars"]


def test_repeated_words_and_numbers_are_told_apart() -> None:
    found = of("red red blue 7 7 8")
    assert found["distinct_words"] == pytest.approx(2 / 3)
    assert found["log_distinct_numbers"] == pytest.approx(np.log(3))


def test_lines_of_digits_are_recognized() -> None:
    assert of("A. 10-20 30\nB. 5000\nwords alone")["lines_of_digits"] == pytest.approx(2 / 3)


def test_long_text_is_measured_at_both_ends() -> None:
    text = "start " * 5_000 + "7?" * 10
    found = of(text)
    assert found["log_chars"] == pytest.approx(np.log1p(len(text)))
    assert found["question_marks"] == 10
    assert len(text) > MAX_CHARS


@given(st.text(max_size=300))
def test_every_text_gives_finite_numbers(text: str) -> None:
    found = form_features(text)
    assert found.shape == (len(FEATURES),)
    assert np.isfinite(found).all()


@pytest.mark.parametrize("text", ["9" * 9_000, "1.2.3,4.", "\ud800 x", "...\n\n\n", "\u0663\u0664 12"])
def test_odd_numbers_and_signs_give_finite_numbers(text: str) -> None:
    assert np.isfinite(form_features(text)).all()
