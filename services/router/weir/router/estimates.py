"""What is expected of each tier for one prompt: quality, time to the first token, time in all, cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from weir.router import pricing
from weir.router.case import Estimate
from weir.router.domain import Facts, Tier, TierState
from weir.router.signals.panel import Readings


def estimates(
    tiers: Iterable[Tier], states: Mapping[Tier, TierState], facts: Facts, readings: Readings
) -> dict[Tier, Estimate]:
    """Estimate each of ``tiers``.

    Quality is 1 - complexity for the SLM, plus the expected gain for the others, within 0 and 1. A tier that
    would have to read the conversation again pays for it in seconds; the one that holds it pays less.
    """
    return {tier: _estimate(states[tier], facts, readings) for tier in tiers}


def _estimate(state: TierState, facts: Facts, readings: Readings) -> Estimate:
    quality = 1 - readings.complexity + readings.gain.get(state.tier, 0.0)
    conversation = readings.conversation
    lost_s = conversation.lost_s.get(state.tier, 0.0)
    first = readings.load[state.tier].expected_first_token_s
    cost = pricing.expected_cost_usd(state, facts)
    if conversation.holder is state.tier:
        cost = max(0.0, cost - conversation.lost_usd)
    return Estimate(
        quality=min(1.0, max(0.0, quality)),
        first_token_s=None if first is None else first + lost_s,
        total_s=None if state.latency_s is None else state.latency_s + lost_s,
        cost_usd=cost,
    )
