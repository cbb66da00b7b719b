"""Conformal prediction: coverage that holds, and what the artifact keeps of the calibration rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weir.router.classifier.conformal import PredictionSets, conformal_quantiles, prediction_sets

ALPHAS = (0.05, 0.1, 0.2, 0.3)


def rows(random: np.random.Generator, count: int, skew: float) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities that are not even calibrated: coverage must not depend on it."""
    wrong = random.random(count) < 0.3
    score = random.normal(skew * wrong, 1.0)
    return 1 / (1 + np.exp(-2 * score)), wrong


def misses(sets: PredictionSets, probability: np.ndarray, wrong: np.ndarray) -> np.ndarray:
    pairs = zip(probability.tolist(), wrong.tolist(), strict=True)
    return np.array([not sets.contains(p, wrong=w) for p, w in pairs])


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("class_conditional", [False, True])
def test_new_prompts_are_covered(alpha: float, class_conditional: bool) -> None:
    random = np.random.default_rng(7)
    missed, by_class = [], {True: [], False: []}  # type: ignore[var-annotated]
    for _ in range(60):
        quantiles = conformal_quantiles(*rows(random, 200, 1.5))
        sets = prediction_sets(quantiles, alpha, class_conditional=class_conditional)
        probability, wrong = rows(random, 300, 1.5)
        found = misses(sets, probability, wrong)
        missed.append(found.mean())
        for outcome in (True, False):
            by_class[outcome].append(found[wrong == outcome].mean())
    # Three standard errors of the mean over the repetitions.
    assert np.mean(missed) <= alpha + 3 * np.std(missed) / np.sqrt(60)
    if class_conditional:
        for each in by_class.values():
            assert np.mean(each) <= alpha + 3 * np.std(each) / np.sqrt(60)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_the_stored_grid_costs_little(alpha: float) -> None:
    random = np.random.default_rng(3)
    probability, wrong = rows(random, 20_000, 1.5)
    sets = prediction_sets(conformal_quantiles(probability, wrong), alpha)
    assert misses(sets, probability, wrong).mean() == pytest.approx(alpha, abs=0.025)


@settings(max_examples=60, deadline=None)
@given(
    probability=st.lists(st.floats(0, 1), min_size=2, max_size=80),
    seed=st.integers(0, 1_000),
    alpha=st.floats(0.01, 0.5),
    class_conditional=st.booleans(),
)
def test_the_calibration_rows_themselves_are_covered(
    probability: list[float], seed: int, alpha: float, class_conditional: bool
) -> None:
    scores = np.array(probability)
    wrong = np.random.default_rng(seed).random(len(scores)) < 0.5
    wrong[:2] = [True, False]
    sets = prediction_sets(conformal_quantiles(scores, wrong), alpha, class_conditional=class_conditional)
    # 1 - p and back may move a threshold by a rounding.
    loose = PredictionSets(sets.fit_up_to + 1e-12, sets.unfit_from - 1e-12)
    assert misses(loose, scores, wrong).mean() <= alpha


def test_a_lower_error_rate_leaves_more_in_doubt() -> None:
    probability, wrong = rows(np.random.default_rng(5), 2_000, 2.0)
    quantiles = conformal_quantiles(probability, wrong)
    sets = [prediction_sets(quantiles, alpha) for alpha in (0.05, 0.1, 0.2)]
    shares = [np.mean([each.doubtful(p) for p in probability]) for each in sets]
    assert shares[0] > shares[1] > shares[2]


def test_few_rows_leave_everything_in_doubt() -> None:
    quantiles = conformal_quantiles(np.array([0.1, 0.9]), np.array([False, True]))
    sets = prediction_sets(quantiles, 0.1, class_conditional=True)
    assert all(sets.doubtful(p) for p in (0.0, 0.5, 1.0))


def test_a_set_with_neither_outcome_is_doubtful_too() -> None:
    sets = PredictionSets(fit_up_to=0.4, unfit_from=0.6)
    assert [sets.doubtful(p) for p in (0.3, 0.5, 0.7)] == [False, True, False]


def test_rows_of_one_outcome_are_refused() -> None:
    with pytest.raises(ValueError, match="both outcomes"):
        conformal_quantiles(np.array([0.1, 0.2]), np.array([False, False]))


@pytest.mark.parametrize("broken", [{}, {"fit": [0.1], "unfit": [0.2], "rows": [1.0, 1.0]}])
def test_quantiles_of_another_shape_are_refused(broken: dict[str, list[float]]) -> None:
    with pytest.raises(ValueError, match="shape"):
        prediction_sets(broken, 0.1)
