"""What a token of the prompt adds to a tier's time to the first token, from what was measured."""

from __future__ import annotations

WEIGHT = 0.05
FEWEST_SAMPLES = 20


class PrefillRate:
    """The slope of seconds over prompt tokens, a regression with exponentially fading samples.

    The slope leaves out what every answer waits for, however long its prompt. Mean, variance and covariance
    are updated one by one (Finch, "Incremental calculation of weighted mean and variance", 2009, section 9).
    """

    def __init__(self) -> None:
        self._samples = 0
        self._tokens = self._seconds = 0.0
        self._variance = self._covariance = 0.0

    def add(self, tokens: int, seconds: float) -> None:
        """Take in an answer whose prompt was in no cache."""
        self._samples += 1
        weight = max(WEIGHT, 1 / self._samples)
        off, late = tokens - self._tokens, seconds - self._seconds
        self._tokens += weight * off
        self._seconds += weight * late
        self._variance = (1 - weight) * (self._variance + weight * off * off)
        self._covariance = (1 - weight) * (self._covariance + weight * off * late)

    @property
    def seconds_per_token(self) -> float:
        """Never negative; 0 while too little is known."""
        if self._samples < FEWEST_SAMPLES or self._variance <= 0:
            return 0.0
        return max(0.0, self._covariance / self._variance)
