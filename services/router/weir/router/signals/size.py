"""How long the prompt is, and whose context it fits with room for the answer."""

from __future__ import annotations

from dataclasses import dataclass

from weir.router import pricing
from weir.router.domain import Tier
from weir.router.signals.base import Observation, Written


@dataclass(frozen=True, slots=True)
class Size:
    """Estimated tokens, and the tiers whose context holds them and the answer."""

    prompt_tokens: int
    fits: tuple[Tier, ...]


class PromptSize:
    """Estimated from the bytes; the engines count exactly."""

    name = "prompt_tokens"

    def read(self, seen: Observation) -> Size:  # noqa: D102
        facts = seen.facts
        return Size(
            facts.prompt_tokens,
            tuple(
                tier
                for tier, state in seen.states.items()
                if facts.prompt_tokens + pricing.answer_limit(state, facts) <= state.max_context
            ),
        )

    def write(self, reading: Size) -> Written:  # noqa: D102
        yield self.name, str(reading.prompt_tokens)
        yield "context_fits", ",".join(tier.value for tier in reading.fits)
