"""Comparing two classifiers: their judgments of the same prompts, and what became of their decisions."""

from __future__ import annotations

import math
from dataclasses import dataclass

from weir.router.classifier.base import Assessment


@dataclass(slots=True)
class Agreement:
    """Two classifiers on the same prompts. ``threshold`` is of the complexity, where the tier turns."""

    threshold: float
    compared: int = 0
    _same: int = 0
    _complexity: float = 0.0
    _gain: float = 0.0

    def add(self, one: Assessment, other: Assessment) -> None:
        """Count one prompt."""
        self.compared += 1
        self._same += (one.complexity >= self.threshold) == (other.complexity >= self.threshold)
        self._complexity += abs(one.complexity - other.complexity)
        self._gain += abs(one.gain - other.gain)

    @property
    def share(self) -> float:
        """Share of prompts on the same side of the threshold, 0 to 1; 0 before the first."""
        return self._same / max(1, self.compared)

    @property
    def complexity_difference(self) -> float:
        """Mean absolute difference of the complexity."""
        return self._complexity / max(1, self.compared)

    @property
    def gain_difference(self) -> float:
        """Mean absolute difference of the expected gain."""
        return self._gain / max(1, self.compared)


@dataclass(slots=True)
class Outcomes:
    """How many answers were good, and how many not."""

    good: int = 0
    bad: int = 0

    def add(self, *, good: bool) -> None:
        """Count one answer."""
        self.good += good
        self.bad += not good

    @property
    def total(self) -> int:
        """All answers."""
        return self.good + self.bad

    @property
    def rate(self) -> float:
        """Share of good ones; 0 before the first."""
        return self.good / max(1, self.total)


def worse_evidence(present: Outcomes, canary: Outcomes) -> float:
    """Return the log of an e-process against "the canary's share of good answers is no lower".

    Whatever the true shares under that hypothesis and however often one looks, the chance that the process
    ever reaches 1/alpha is at most alpha (Ville's inequality), so that stopping at that moment is sound where
    a test of two proportions repeated at every answer would not be. It divides the likelihood of the outcomes
    under Jeffreys mixtures, one for either side (Robbins 1970, method of mixtures), by the greatest one under
    the hypothesis (Wasserman, Ramdas and Balakrishnan 2020, universal inference): with the canary behind,
    that is at one common share. Outcomes count as independent with constant shares; requests are drawn at
    random, so that a drift meets both sides alike.
    """
    if canary.rate >= present.rate:
        return 0.0
    good, bad = present.good + canary.good, present.bad + canary.bad
    share = good / (good + bad)
    common = _times_log(good, share) + _times_log(bad, 1 - share)
    return _mixture(present) + _mixture(canary) - common


def _mixture(outcomes: Outcomes) -> float:
    """Log of the likelihood's mean under Beta(1/2, 1/2)."""
    return _log_beta(outcomes.good + 0.5, outcomes.bad + 0.5) - _log_beta(0.5, 0.5)


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def _times_log(count: int, share: float) -> float:
    return count * math.log(share) if count else 0.0
