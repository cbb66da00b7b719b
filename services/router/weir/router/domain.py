"""The router's own terms: tiers, what a request asks, what was decided. No protos, no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from weir.common.prompts import PromptSpec

if TYPE_CHECKING:
    from weir.router.case import Bounds, Case, Estimate
    from weir.router.classifier.base import Judgment


class Tier(StrEnum):
    """Where an answer may come from, cheapest first."""

    SLM = "slm"
    HYBRID = "hybrid"
    FRONTIER = "frontier"


ALL_TIERS = frozenset(Tier)


class Residency(StrEnum):
    """How far a request's content may travel."""

    LOCAL_ONLY = "local_only"
    REDACTED = "redacted"
    ANY = "any"


@dataclass(frozen=True, slots=True)
class Policy:
    """What the caller allows. ``residency`` is resolved; ``stated`` tells whether the caller named one.

    ``allowed`` is never empty in a request; rules and tenants may leave nothing of it.
    """

    residency: Residency = Residency.ANY
    allowed: frozenset[Tier] = ALL_TIERS
    max_cost_usd: float | None = None
    latency_budget_s: float | None = None
    no_store: bool = False
    domain: str = ""
    stated: bool = True


@dataclass(frozen=True, slots=True)
class Ask:
    """One request, valid in itself. ``token_detail`` keeps the tokens in the deltas."""

    request_id: str
    prompt: PromptSpec
    policy: Policy
    token_detail: bool = False


@dataclass(frozen=True, slots=True)
class Reason:
    """Why: a stable code for machines and a sentence for people."""

    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Exclusion:
    """A tier that may not answer, and why."""

    tier: Tier
    reason: Reason


@dataclass(frozen=True, slots=True)
class TierState:
    """What is known of a tier now.

    Prices are USD per million tokens; ``cached_input_usd_per_million`` is ``None`` where cached prompts cost
    the same. ``first_token_s`` is the measured mean, ``None`` while unmeasured. ``in_flight`` counts our own
    requests, ``waiting`` those in the shortest queue of a replica that can run ``capacity`` at once (0:
    unknown). ``adapters`` maps the domains that the tier was tuned for to the adapter to use (empty: the
    base model).
    """

    tier: Tier
    model: str
    configured: bool = True
    reachable: bool = True
    max_context: int = 8192
    default_max_tokens: int = 512
    constraints: frozenset[str] = frozenset()
    adapters: tuple[tuple[str, str], ...] = ()
    input_usd_per_million: float = 0.0
    output_usd_per_million: float = 0.0
    cached_input_usd_per_million: float | None = None
    stand_in: bool = False
    in_flight: int = 0
    waiting: int = 0
    capacity: int = 0
    first_token_s: float | None = None
    latency_s: float | None = None
    mean_completion_tokens: float | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """What eligibility looks at. ``prompt_tokens`` is an estimate.

    ``policy`` is the one in force: the request's own, narrowed by its tenant and by rules. ``barred`` are the
    tiers that those take from it, with the reason that names them.
    """

    prompt_tokens: int
    max_tokens: int | None
    constraint: str | None
    policy: Policy
    barred: Mapping[Tier, Reason] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Decision:
    """The choice and everything that led to it.

    Attributes:
        order: the chosen tier and who may take over.
        case, bounds: what was chosen from and under what; ``selection.select`` gives the same again.
        signals: what was measured of the request, as name and value; never its text.
        judgment: the classifier's, with who gave it.
        revisions: of the classifier, the policy and the program.
    """

    decision_id: str
    order: tuple[Tier, ...]
    model: str
    complexity: float
    confidence: float
    estimated_latency_s: float | None
    estimated_cost_usd: float
    reasons: tuple[Reason, ...]
    exclusions: tuple[Exclusion, ...]
    case: Case
    bounds: Bounds
    judgment: Judgment
    signals: tuple[tuple[str, str], ...] = ()
    revisions: Mapping[str, str] = field(default_factory=dict)

    @property
    def tier(self) -> Tier:
        """The chosen tier."""
        return self.order[0]

    @property
    def classifier_revision(self) -> str:
        """The classifier that judged."""
        return self.judgment.revision

    @property
    def complexity_threshold(self) -> float:
        """The threshold in force when this was decided."""
        return self.bounds.complexity

    @property
    def estimates(self) -> tuple[tuple[Tier, Estimate], ...]:
        """What is expected of every eligible tier, cheapest first."""
        return tuple((tier, self.case.estimates[tier]) for tier in self.case.eligible)


@dataclass(frozen=True, slots=True)
class Usage:
    """One attempt on one model, as the tier reported it."""

    tier: Tier
    model: str
    prompt_tokens: int = 0
    cached_prompt_tokens: int = 0
    completion_tokens: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    cost_usd: float = 0.0
    stand_in: bool = False
    passes: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    provider: str = ""
    replay: bool = False


class Finish(StrEnum):
    """Why an answer ended."""

    STOP = "stop"
    LENGTH = "length"
    BUDGET = "budget"


@dataclass(frozen=True, slots=True)
class Handover:
    """Another tier takes over from here, or within one tier another model, which is then named."""

    source: Tier
    target: Tier
    reason: Reason
    kept_tokens: int = 0
    from_model: str = ""
    to_model: str = ""


@dataclass(frozen=True, slots=True)
class TierFinished:
    """The end of one tier's stream; ``queue_s`` is the time it spent waiting for a place."""

    finish: Finish
    usage: tuple[Usage, ...]
    queue_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of an answer; times count from the request's arrival.

    ``confidence`` is the classifier's calibrated probability that the small model's answer would do; a
    larger local model's has no labels, so for it this is a lower bound.
    A frontier answer adds the probability that a
    strong model is right where the small one is not, and takes it to be right where the small one is. An
    answer that breaks its constraint has 0.
    """

    finish: Finish
    usage: tuple[Usage, ...]
    cost_usd: float
    frontier_cost_usd: float
    queue_s: float
    first_token_s: float
    total_s: float
    confidence: float
