"""The one interface of all signals, and what they look at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

from weir.common.prompts import PromptSpec
from weir.router.classifier.base import Assessment, Judgment
from weir.router.domain import Facts, Tier, TierState

T = TypeVar("T")
# How a reading is written into a decision: names and values, never text of the request.
Written = Iterable[tuple[str, str]]

UNJUDGED = Judgment(Assessment(0.5, 0.0, 0, ()), revision="", by="prior", note="unjudged")


@dataclass(frozen=True, slots=True)
class Observation:
    """A request and everything around it that a signal may read.

    Attributes:
        prompt: the conversation.
        facts: its measures, with the policy in force.
        tenant: who asks.
        text: what is classified of the conversation.
        states: the tiers now.
        judgment: the classifier's; ``UNJUDGED`` before it was asked.
    """

    prompt: PromptSpec
    facts: Facts
    tenant: str
    text: str
    states: Mapping[Tier, TierState]
    judgment: Judgment = UNJUDGED


class Signal(Protocol[T]):
    """One measurement. ``read`` is cheap and never fails; no signal looks for words."""

    name: str

    def read(self, seen: Observation) -> T:
        """Measure."""
        ...

    def write(self, reading: T) -> Written:
        """Write a reading as names and values: kinds, counts and codes alone."""
        ...


def listed(values: Mapping[Tier, float]) -> str:
    """Write a number per tier."""
    return ",".join(f"{tier.value}={value:.4g}" for tier, value in values.items())
