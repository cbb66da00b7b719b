"""The section ``routing``: how a tier is chosen, by which classifiers, and what moves the thresholds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from weir.common.config.base import ResidencyName, Seconds, Section, Share

TierName = Literal["slm", "hybrid", "frontier"]


class DynamicAdjustment(Section):
    """Thresholds that follow measurements; see ``weir.router.control``."""

    enabled: bool = False
    window_seconds: Seconds = 300
    metric: Literal["p95_latency", "cost_per_query"] = "p95_latency"
    # Value to hold the metric at: seconds, or USD. Unset: the latency alert's bound; cost then moves nothing.
    target: Annotated[float, Field(gt=0)] | None = None
    # Within this share around the target nothing moves.
    dead_band: Share = 0.1
    # How far a threshold may move from the configured one.
    reach: Share = 0.25
    # Shortest time between two moves; a quarter of the window where unset.
    dwell_seconds: Seconds | None = None
    # Mean expected quality below which no relief is bought; 0.05 below that at the configured thresholds
    # where unset.
    quality_floor: Share | None = None
    # Shares of failed and of handed-over answers past which traffic moves off a tier.
    max_error_rate: Share = 0.2
    max_escalation_rate: Share = 0.5


class RoutingTarget(Section):
    """The better mode of choice: exactly one of the three is held."""

    # Expected quality (probability of a right answer) that the cheapest sufficient tier must reach.
    quality: Share | None = None
    # Mean USD per query, bought where it gains most.
    cost: Annotated[float, Field(gt=0)] | None = None
    # p95 of the time to the first token, in milliseconds.
    latency: Annotated[float, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _one(self) -> RoutingTarget:
        if sum(value is not None for value in (self.quality, self.cost, self.latency)) != 1:
            raise ValueError("give exactly one of quality, cost, latency")
        return self


class RuleCondition(Section):
    """All that are given must hold; a list holds when any of its members does."""

    tenants: list[str] = []
    domains: list[str] = []
    # Probability from which the classifier's domain counts.
    domain_probability: Share = 0.5
    # ISO 639-1 codes.
    languages: list[str] = []
    # Kinds of personal data ("email", "card", "iban", ...; "any").
    personal_data: list[str] = []
    # Kinds of output constraint ("json_schema", "regex", "choices", "grammar"; "any").
    constraints: list[str] = []
    min_prompt_tokens: Annotated[int, Field(ge=0)] | None = None
    max_prompt_tokens: Annotated[int, Field(ge=0)] | None = None
    min_complexity: Share | None = None
    max_complexity: Share | None = None
    # Turns of the conversation so far, the present one included.
    min_turns: Annotated[int, Field(ge=1)] | None = None
    # Budget that the request states.
    latency_budget_below_ms: Annotated[float, Field(gt=0)] | None = None


class Rule(Section):
    """Narrows or prefers; nothing here can make a tier eligible."""

    name: Annotated[str, Field(min_length=1, max_length=80)]
    when: RuleCondition = RuleCondition()
    # Tiers that may answer; all where empty.
    allow: list[TierName] = []
    # Narrowest wins over the request's own.
    residency: ResidencyName | None = None
    # Taken where eligible.
    prefer: TierName | None = None
    # Domain whose adapter serves it.
    adapter: str | None = None


class TenantPolicy(Section):
    """What holds for one tenant beside the general settings; the narrower wins."""

    residency: ResidencyName | None = None
    allow: list[TierName] = []
    max_cost_usd: Annotated[float, Field(ge=0)] | None = None
    latency_budget_ms: Annotated[float, Field(gt=0)] | None = None
    complexity_threshold: Share | None = None
    target: RoutingTarget | None = None


class Cascade(Section):
    """A larger classifier for the prompts that the first is not sure of."""

    # Folder of the larger classifier's artifact; no cascade where unset.
    classifier: Path | None = None
    # Share of all prompts of which the first alone may be sure and wrong (split-conformal).
    error_rate: Annotated[float, Field(gt=0, lt=1)] = 0.1
    # Hold it for prompts that the small model can answer and for those that it cannot, each.
    class_conditional: bool = False


class ClassifierRuntime(Section):
    """How classifiers run."""

    # Prompts judged together at most; 1 turns batching off.
    max_batch: Annotated[int, Field(gt=0)] = 16
    # Past it the decision falls back to what needs no classifier, and says so.
    time_limit_ms: Annotated[float, Field(gt=0)] = 250
    # Judgments kept for identical prompts; 0 keeps none.
    cache_entries: Annotated[int, Field(ge=0)] = 10_000
    # ONNX Runtime's, the first that is there is used.
    execution_providers: list[Literal["tensorrt", "cuda", "cpu"]] = ["cpu"]
    threads: Annotated[int, Field(gt=0)] = 2
    # How often the artifact folders are looked at for a new revision; 0 never.
    reload_seconds: Annotated[float, Field(ge=0)] = 2.0


class Shadow(Section):
    """A candidate that judges silently beside the classifier in force."""

    classifier: Path
    # Share of requests that it judges.
    share: Share = 1.0


class Canary(Section):
    """A candidate that decides for some, and is rolled back on a worse outcome."""

    classifier: Path
    share: Share = 0.05
    # Tenants that it decides for whatever the share.
    tenants: list[str] = []
    # Outcomes on each side before they are compared.
    min_outcomes: Annotated[int, Field(gt=0)] = 200
    # One-sided significance at which a worse outcome rolls back.
    significance: Annotated[float, Field(gt=0, lt=0.5)] = 0.01


class Routing(Section):
    """How a tier is chosen among the eligible ones."""

    # At or above this calibrated probability of an unfit SLM answer, the frontier is chosen.
    complexity_threshold: Share = 0.72
    # Steers the choice among tiers by the expected time to the first token.
    latency_budget_ms: Annotated[float, Field(gt=0)] = 80
    # A choice of the SLM less sure than this is verified (hybrid) instead.
    fallback_on_confidence_below: Share = 0.65
    # Instead of the two thresholds: what to hold.
    target: RoutingTarget | None = None
    # A dearer tier that is expected to add less than this to the quality is not worth it (mode ``target``).
    least_gain: Share = 0.05
    dynamic_adjustment: DynamicAdjustment = DynamicAdjustment()
    # In the order in which they are asked; all that match narrow, the first that prefers is followed.
    rules: list[Rule] = []
    tenants: dict[str, TenantPolicy] = {}
    # Of requests that state none.
    default_residency: ResidencyName = "any"
    # Of requests that state none and hold personal data, where narrower than the default.
    personal_data_residency: ResidencyName = "redacted"
    # Folder of a classifier artifact; the packaged one where unset.
    classifier: Path | None = None
    cascade: Cascade = Cascade()
    runtime: ClassifierRuntime = ClassifierRuntime()
    shadow: Shadow | None = None
    canary: Canary | None = None
    # Longest prompt, in bytes of UTF-8 over all messages.
    max_prompt_bytes: Annotated[int, Field(gt=0)] = 262_144
