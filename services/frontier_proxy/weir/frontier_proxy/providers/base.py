"""The interface that every provider of frontier models has."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol

import msgspec
from pydantic import SecretStr

from weir.engines.base import ChatMessage, Constraint, FinishReason, Sampling
from weir.frontier_proxy.domain import TokenCounts
from weir.frontier_proxy.keys import NO_KEY, Key
from weir.frontier_proxy.network import DIRECT, Route

# Behind the name of a provider on the ledger whose answers were recordings: what was spent on them stays
# marked, also once the provider is gone from the configuration or has become another.
REPLAY_MARK = " (replay)"
# The shortest lengths of answers that kinds of providers take, where they take not any.
_LEAST_TOKENS = {"openai_responses": 16}


@dataclass(frozen=True, slots=True)
class Pace:
    """Longest waits, in seconds: for the first text, and between two pieces of it. ``None``: no limit."""

    first_token_s: float | None = None
    inter_token_s: float | None = None


@dataclass(frozen=True, slots=True)
class Access:
    """Where a provider is, how it is reached, and how it is entered."""

    name: str
    kind: str
    base_url: str
    entry: Key = NO_KEY
    route: Route = DIRECT
    connect_timeout_s: float = 5.0
    pace: Pace = Pace()

    @property
    def key(self) -> SecretStr | None:
        """The key for the next request; it may change between two."""
        return self.entry.current()

    @property
    def key_source(self) -> str:
        """The name of the variable or file that holds the key."""
        return self.entry.source

    @property
    def account(self) -> str:
        """The name under which the ledger has its spending."""
        return self.name + REPLAY_MARK if self.replay else self.name

    @property
    def least_tokens(self) -> int:
        """The shortest length that can be asked for."""
        return _LEAST_TOKENS.get(self.kind, 1)

    @property
    def replay(self) -> bool:
        """Whether recordings are played."""
        return self.kind == "replay"


@dataclass(frozen=True, slots=True)
class ProviderRequest:
    """One prompt for one model. ``prefix`` is answer text that already stands and is to be continued.

    ``traits`` are those of the model in the price table (see ``prices.yaml``); an absent sampling value
    stays absent on the wire.
    """

    model: str
    messages: tuple[ChatMessage, ...]
    sampling: Sampling
    constraint: Constraint | None = None
    prefix: str = ""
    traits: frozenset[str] = frozenset()


class Delta(msgspec.Struct, frozen=True):
    """New text, or token counts that the provider told on the way, or both.

    ``unseen`` is text that is billed but no part of the answer: reasoning. ``final``: the counts are those of
    the bill although no ``Finished`` comes, since the answer ends with an error.
    """

    text: str = ""
    counts: TokenCounts | None = None
    unseen: str = ""
    final: bool = False


class Finished(msgspec.Struct, frozen=True):
    """The last event. ``counts`` is ``None`` where the provider told none."""

    reason: FinishReason
    counts: TokenCounts | None = None


ProviderEvent = Delta | Finished


class Provider(Protocol):
    """A source of answers."""

    @property
    def access(self) -> Access:
        """Its name, kind and time limits."""
        ...

    @property
    def stand_in(self) -> bool:
        """Whether it answers in place of a model that is not configured."""
        ...

    @property
    def max_stops(self) -> int:
        """How many stop strings it takes; further ones are the caller's to apply."""
        ...

    def supports(self, constraint: Constraint) -> bool:
        """Whether it can hold an answer to ``constraint``."""
        ...

    def prefills(self, request: ProviderRequest) -> bool:
        """Whether the prefix is handed over as the answer's start, so that the model cannot repeat it."""
        ...

    def stream(self, request: ProviderRequest) -> AsyncGenerator[ProviderEvent, None]:
        """Yield deltas, then one ``Finished``. Closing the iterator closes the provider's stream at once.

        The first delta, empty perhaps, comes once the provider has accepted the request and may charge it.

        Raises WeirError: PROVIDER_AUTH, RATE_LIMITED, PROVIDER_REJECTED, PROVIDER_FAILED.
        """
        ...
