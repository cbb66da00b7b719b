"""What the choice of a tier depends on, complete: it is stored with each decision, so that it can be
replayed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from weir.router.domain import Tier

Mode = Literal["thresholds", "quality", "cost", "latency"]


@dataclass(frozen=True, slots=True)
class Estimate:
    """What is expected of a tier for one prompt.

    Attributes:
        quality: probability of a right answer, 0 to 1.
        first_token_s: seconds to the first token, the lost prompt cache included; ``None`` while unmeasured.
        total_s: seconds to the end.
        cost_usd: USD.
    """

    quality: float
    first_token_s: float | None = None
    total_s: float | None = None
    cost_usd: float = 0.0


@dataclass(frozen=True, slots=True)
class Case:
    """One request as the choice sees it.

    Attributes:
        complexity, gain: the classifier's (see ``classifier.base.Assessment``).
        eligible: the tiers that may answer, cheapest first; nothing chooses outside of them.
        exclusions: why the others may not, as stable codes.
        estimates: of every eligible tier.
        constraint: kind of output constraint.
        latency_budget_s: the request's or its tenant's own; ``None`` leaves the configured default.
        prefer: the tier that a rule prefers.
        adapted: whether the SLM has an adapter for the prompt's domain.
        pinned: why one tier alone is left by the policy (a reason's code), empty otherwise.
    """

    complexity: float
    gain: float
    eligible: tuple[Tier, ...]
    exclusions: Mapping[Tier, str] = field(default_factory=dict)
    estimates: Mapping[Tier, Estimate] = field(default_factory=dict)
    constraint: str | None = None
    latency_budget_s: float | None = None
    prefer: Tier | None = None
    adapted: bool = False
    pinned: str = ""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What is in force while choosing.

    ``complexity`` and ``confidence`` are the plain mode's thresholds. In mode ``quality`` the bar of that
    name is what the cheapest tier must reach, and a dearer one has to add ``least_gain`` to be worth it.
    Where a cost or a latency is held the controller moves ``quality``, and a dearer tier has to add 1 -
    ``quality``. ``latency_budget_s`` is the default of requests that state none.
    """

    mode: Mode = "thresholds"
    complexity: float = 0.72
    confidence: float = 0.65
    quality: float = 0.8
    least_gain: float = 0.05
    latency_budget_s: float = 0.08
    strict_schema: bool = True
    frontier_fallback: bool = True
