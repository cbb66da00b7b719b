"""Bootstrap intervals: the vectorized figures agree with the plain ones, and the intervals behave."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.router.training import bootstrap, metrics
from weir.router.training.bootstrap import Resampling
from weir.router.training.metrics import Bools, Floats

ROWS = 300


def _rows(seed: int, ties: int = 40) -> tuple[Floats, Bools, Bools]:
    """Scores with ties that tell something, and a strong model that is clearly better."""
    generator = np.random.default_rng(seed)
    weak = generator.random(ROWS) < 0.5
    strong = generator.random(ROWS) < 0.9
    score = np.round((generator.random(ROWS) + 0.5 * (strong.astype(float) - weak)) * ties) / ties
    return score, weak, strong


@given(st.integers(0, 2**32 - 1))
def test_every_resample_has_the_figures_of_its_rows(seed: int) -> None:
    score, weak, strong = _rows(seed)
    counts = next(Resampling(samples=3, seed=seed).draws(ROWS))
    apgr = bootstrap.apgr(score, weak, strong)(counts)
    cpt = bootstrap.cpt(score, weak, strong, 0.8)(counts)
    for row, drawn in enumerate(counts):
        plain = np.repeat(score, drawn), np.repeat(weak, drawn), np.repeat(strong, drawn)
        assert apgr[row] == pytest.approx(metrics.apgr(*plain))
        assert cpt[row] == pytest.approx(metrics.cpt(*plain, 0.8))


@given(st.integers(0, 2**32 - 1))
def test_every_resample_has_the_ece_of_its_rows(seed: int) -> None:
    generator = np.random.default_rng(seed)
    said, happened = generator.random(ROWS), generator.random(ROWS) < 0.5
    counts = next(Resampling(samples=3, seed=seed).draws(ROWS))
    found = bootstrap.ece(said, happened)(counts)
    for row, drawn in enumerate(counts):
        assert found[row] == pytest.approx(metrics.ece(np.repeat(said, drawn), np.repeat(happened, drawn)))


@given(st.integers(0, 2**32 - 1))
def test_intervals_hold_the_figure_itself(seed: int) -> None:
    score, weak, strong = _rows(seed)
    said = np.random.default_rng(seed).random(ROWS)
    points = {
        "apgr": metrics.apgr(score, weak, strong),
        "cpt50": metrics.cpt(score, weak, strong, 0.5),
        "mean": float(weak.mean()),
        "ece": metrics.ece(said, ~weak),
    }
    statistics = {
        "apgr": bootstrap.apgr(score, weak, strong),
        "cpt50": bootstrap.cpt(score, weak, strong, 0.5),
        "mean": bootstrap.mean(weak),
        "ece": bootstrap.ece(said, ~weak),
    }
    found = Resampling(samples=200).intervals(statistics, ROWS, {"ece": points["ece"]})
    for name, point in points.items():
        low, high = found[name]
        assert low - 1e-9 <= point <= high + 1e-9


def test_the_interval_of_a_mean_is_the_normal_one() -> None:
    values = np.random.default_rng(0).normal(size=2000)
    low, high = Resampling(samples=2000).intervals({"mean": bootstrap.mean(values)}, 2000)["mean"]
    error = 1.96 * values.std() / np.sqrt(2000)
    assert (low, high) == pytest.approx((values.mean() - error, values.mean() + error), abs=0.01)


def test_equal_seeds_give_equal_intervals_whatever_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    statistic = {"mean": bootstrap.mean(np.arange(ROWS))}
    at_once = Resampling(samples=100).intervals(statistic, ROWS)
    monkeypatch.setattr(bootstrap, "_CELLS", ROWS * 7)
    assert Resampling(samples=100).intervals(statistic, ROWS) == at_once
    assert Resampling(samples=100, seed=1).intervals(statistic, ROWS) != at_once


def test_a_score_is_no_better_than_itself() -> None:
    score, weak, strong = _rows(0)
    same = bootstrap.difference(
        bootstrap.apgr(score, weak, strong), bootstrap.apgr(np.exp(score), weak, strong)
    )
    assert Resampling(samples=50).intervals({"difference": same}, ROWS)["difference"] == pytest.approx((0, 0))


def test_no_rows_and_no_samples_give_no_interval() -> None:
    assert Resampling().intervals({"mean": bootstrap.mean([])}, 0) == {}
    assert Resampling(samples=0).intervals({"mean": bootstrap.mean([1.0])}, 1) == {}


def test_a_figure_that_most_resamples_leave_undefined_has_no_interval() -> None:
    weak, strong = np.array([False, True, True, True]), np.array([True, True, True, True])
    statistic = {"apgr": bootstrap.apgr(np.arange(4.0), weak, strong)}
    # A third of the resamples lacks the one row on which the strong model is better.
    assert Resampling().intervals(statistic, 4) == {}
