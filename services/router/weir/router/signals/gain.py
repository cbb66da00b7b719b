"""What each dearer tier is expected to add to the small model's quality."""

from __future__ import annotations

from collections.abc import Mapping

from weir.router.domain import Tier
from weir.router.signals.base import Observation, Written, listed


def added_quality(gain: float, recovered_gain: float) -> dict[Tier, float]:
    """Return what the dearer tiers add where no stand-in answers for them; see ``Gain``."""
    return {Tier.HYBRID: recovered_gain * max(gain, 0.0), Tier.FRONTIER: gain}


class Gain:
    """Probability of a right answer beyond the SLM's, -1 to 1.

    The classifier's gain is that of a strong model and so of FRONTIER. HYBRID's larger model brings
    ``recovered_gain`` (0 to 1) of it where it is positive. A stand-in adds nothing: it is no stronger model.
    """

    name = "gain"

    def __init__(self, recovered_gain: float) -> None:
        self._recovered = recovered_gain

    def read(self, seen: Observation) -> Mapping[Tier, float]:  # noqa: D102
        expected = added_quality(seen.judgment.assessment.gain, self._recovered)
        return {tier: 0.0 if seen.states[tier].stand_in else value for tier, value in expected.items()}

    def write(self, reading: Mapping[Tier, float]) -> Written:  # noqa: D102
        return ((self.name, listed(reading)),)
