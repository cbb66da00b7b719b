"""Whether the small model's answer would do: the classifier's calibrated probability that it would not."""

from __future__ import annotations

from weir.router.signals.base import Observation, Written


class Answerability:
    """0 to 1, higher where the small model is likelier to fail."""

    name = "complexity"

    def read(self, seen: Observation) -> float:  # noqa: D102
        return seen.judgment.assessment.complexity

    def write(self, reading: float) -> Written:  # noqa: D102
        return ((self.name, f"{reading:.4f}"),)
