"""How healthy and how busy each tier is, and how quick it was of late."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from weir.router.domain import Tier, TierState
from weir.router.signals.base import Observation, Written, listed


@dataclass(frozen=True, slots=True)
class Load:
    """One tier now.

    Attributes:
        healthy: whether a replica can be used.
        in_flight: our own requests there.
        queue_s: seconds until a place is free, by Little's law; 0 without a queue or a measured latency.
        first_token_s: measured mean, ``None`` while unmeasured.
    """

    healthy: bool
    in_flight: int
    queue_s: float
    first_token_s: float | None

    @property
    def expected_first_token_s(self) -> float | None:
        """The measured mean, or the present queue where that alone takes longer."""
        return None if self.first_token_s is None else max(self.first_token_s, self.queue_s)


class TierLoad:
    """The load of every tier."""

    name = "load"

    def read(self, seen: Observation) -> Mapping[Tier, Load]:  # noqa: D102
        return {tier: _load(state) for tier, state in seen.states.items()}

    def write(self, reading: Mapping[Tier, Load]) -> Written:  # noqa: D102
        yield "healthy", ",".join(tier.value for tier, load in reading.items() if load.healthy)
        yield "in_flight", listed({tier: load.in_flight for tier, load in reading.items()})
        queued = {tier: load.queue_s for tier, load in reading.items() if load.queue_s > 0}
        if queued:
            yield "queue_s", listed(queued)


def _load(state: TierState) -> Load:
    queue_s = 0.0
    if state.waiting and state.capacity and state.latency_s:
        queue_s = state.waiting * state.latency_s / state.capacity
    return Load(state.configured and state.reachable, state.in_flight, queue_s, state.first_token_s)
