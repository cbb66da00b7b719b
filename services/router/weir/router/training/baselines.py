"""Scores that need no classifier: what every classifier has to beat."""

from __future__ import annotations

import numpy as np

from weir.router.training.dataset import Dataset
from weir.router.training.duplicates import prompt_key
from weir.router.training.metrics import Floats

RANDOM, LENGTH, DOMAIN, ORACLE = "random", "prompt length", "domain's mean", "oracle"
CHEAP, DEAR = "always cheap", "always dear"
_PARTS = 5


def scores(data: Dataset, train: Dataset | None) -> dict[str, Floats]:
    """Return the score of each baseline for every row, float64 [rows], high where the strong model is wanted.

    ``random`` scores all rows alike: ties are broken at random in the mean (see ``metrics.recovered_gap``).
    """
    return {
        RANDOM: np.zeros(len(data.rows)),
        LENGTH: np.array([float(len(prompt)) for prompt in data.prompts]),
        DOMAIN: domain_means(data, train) if train else cross_fitted_means(data),
        ORACLE: data.strong.astype(np.float64) - data.weak,
    }


def domain_means(data: Dataset, train: Dataset) -> Floats:
    """Return for each row the mean gain of its domain in ``train``, the overall one where it has none."""
    known = train.complete
    gain = known.strong.astype(np.float64) - known.weak
    overall = float(gain.mean()) if len(gain) else 0.0
    means = {name: float(gain[known.subjects == name].mean()) for name in set(known.subjects.tolist())}
    return np.array([means.get(name, overall) for name in data.subjects.tolist()])


def cross_fitted_means(data: Dataset) -> Floats:
    """Return ``domain_means`` of each fifth of ``data``, by prompt hash, from the other four.

    Leaving out single rows instead would score a row the lower, the higher its own gain: within a domain that
    is the reverse of the right order.
    """
    part = np.array([int(prompt_key(prompt)[:8], 16) % _PARTS for prompt in data.prompts])
    found = np.zeros(len(data.rows))
    for number in range(_PARTS):
        held = part == number
        found[held] = domain_means(data.where(held), data.where(~held))
    return found
