"""The conversation so far: how many turns, and what changing the tier would lose of its prompt cache."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from weir.common.prompts import PromptSpec
from weir.router import pricing
from weir.router.domain import Tier, TierState
from weir.router.facts import affinity_key
from weir.router.signals.base import Observation, Written, listed
from weir.router.signals.prefill import PrefillRate

MAX_CONVERSATIONS = 10_000
# Providers keep a prompt cache for five minutes, and a busy replica hardly longer.
KEPT_FOR_S = 300.0


@dataclass(frozen=True, slots=True)
class Conversation:
    """Where the conversation stands.

    Attributes:
        turns: of the user, the present one included.
        holder: the tier that answered last and so has the beginning of the prompt in its cache.
        held_tokens: how much of it.
        lost_s: seconds that each other tier needs to read again what ``holder`` has read.
        lost_usd: USD that each other tier costs because ``holder`` would charge less for what it has read.
    """

    turns: int
    holder: Tier | None = None
    held_tokens: int = 0
    lost_s: Mapping[Tier, float] = field(default_factory=dict)
    lost_usd: float = 0.0


class ConversationMemory:
    """Who answered the conversations of the last minutes, by a hash of their beginning; and as a signal.

    Bounded: the least recently used is forgotten first.
    """

    name = "turns"

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._holders: OrderedDict[bytes, tuple[Tier, int, float]] = OrderedDict()
        self._rates = {tier: PrefillRate() for tier in Tier}

    def answered(
        self, prompt: PromptSpec, tenant: str, tier: Tier, prompt_tokens: int, first_token_s: float
    ) -> None:
        """Note who answered, and how long its first token took: seconds from that tier's own start."""
        key = _key(prompt, tenant)
        holder, _ = self._held(key, prompt_tokens)
        if holder is not tier:
            self._rates[tier].add(prompt_tokens, first_token_s)
        self._holders[key] = (tier, prompt_tokens, self._clock())
        self._holders.move_to_end(key)
        while len(self._holders) > MAX_CONVERSATIONS:
            self._holders.popitem(last=False)

    def read(self, seen: Observation) -> Conversation:  # noqa: D102
        turns = sum(message.role == "user" for message in seen.prompt.messages)
        holder, held = self._held(_key(seen.prompt, seen.tenant), seen.facts.prompt_tokens)
        if holder is None:
            return Conversation(turns)
        lost_s = {t: held * self._rates[t].seconds_per_token for t in seen.states if t is not holder}
        return Conversation(turns, holder, held, lost_s, _discount_usd(seen.states[holder], held))

    def write(self, reading: Conversation) -> Written:  # noqa: D102
        yield self.name, str(reading.turns)
        if reading.holder:
            yield "cached_in", reading.holder.value
            yield "switch_s", listed(reading.lost_s)
            if reading.lost_usd:
                yield "switch_usd", f"{reading.lost_usd:.3g}"

    def _held(self, key: bytes, prompt_tokens: int) -> tuple[Tier | None, int]:
        tier, tokens, at = self._holders.get(key, (None, 0, 0.0))
        if tier is None or self._clock() - at >= KEPT_FOR_S:
            return None, 0
        return tier, min(tokens, prompt_tokens)


def _discount_usd(state: TierState, tokens: int) -> float:
    cached = state.cached_input_usd_per_million
    if cached is None:
        return 0.0
    return max(0.0, state.input_usd_per_million - cached) * tokens / pricing.MILLION


def _key(prompt: PromptSpec, tenant: str) -> bytes:
    named = tenant.encode() + b"\0" + affinity_key(prompt)
    return hashlib.blake2b(named, digest_size=16).digest()
