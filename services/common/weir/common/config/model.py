"""The configuration's shape. Every field has a default, so that the embedded set-up needs no file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

Port = Annotated[int, Field(ge=0, le=65535)]
Share = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(gt=0)]
EngineName = Literal["openvino", "tensorrt_llm", "openai"]
ServerName = Literal["auto", "plain", "llama_cpp", "ollama", "sglang", "tensorrt_llm", "vllm"]
ResidencyName = Literal["local_only", "redacted", "any"]

EMBEDDED_MODEL = "smollm2-135m-instruct"


class Section(BaseModel):
    """A group of settings; unknown keys are errors (see ``load``)."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


def _target(value: str) -> str:
    if ":" not in value:
        raise ValueError("give it as host:port, dns:///name:port or unix:path")
    return value


Target = Annotated[str, AfterValidator(_target)]


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


class Tier(Section):
    """What the three tiers have in common."""

    model_id: str
    max_context: Annotated[int, Field(gt=0)] = 8192
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    max_tokens: Annotated[int, Field(gt=0)] = 512


class LocalModel(Section):
    """How a local model is run. Applies to the worker's and the verifier's alike."""

    engine: EngineName = "openvino"
    # A GGUF file, an OpenVINO or Hugging Face folder; the model store is asked where unset.
    path: Path | None = None
    # Engine "openai": the server's address, ending in /v1, and the name of the variable that holds its key.
    base_url: str | None = None
    api_key_env: str | None = None
    # Engine "openai": whose extensions of the API may be used; the server is asked where "auto".
    server: ServerName = "auto"
    # LoRA adapters by name.
    adapters: dict[str, Path] = {}
    # Streams decoded together, and those that may wait for a place.
    max_running: Annotated[int, Field(gt=0)] = 32
    max_waiting: Annotated[int, Field(ge=0)] = 96
    # Verifier and drafter sessions open at once.
    max_sessions: Annotated[int, Field(gt=0)] = 16
    kv_cache_gb: Annotated[float, Field(gt=0)] = 1.0
    # Engine "tensorrt_llm": parallelism and in-engine speculation.
    tensor_parallel_size: Annotated[int, Field(gt=0)] = 1
    pipeline_parallel_size: Annotated[int, Field(gt=0)] = 1
    speculative: Literal["none", "draft_model", "eagle3", "ngram"] = "none"
    speculative_model: Path | None = None
    speculative_tokens: Annotated[int, Field(gt=0)] = 4
    # USD per million tokens, for the receipts; local inference counts as free unless priced here.
    input_usd_per_million: Annotated[float, Field(ge=0)] = 0.0
    output_usd_per_million: Annotated[float, Field(ge=0)] = 0.0


class SlmTier(Tier):
    """The small model alone."""

    model_id: str = EMBEDDED_MODEL
    quantization: str | None = None
    speculative_draft: bool = True
    output_schema_strict: bool = True
    # Domains (Policy.domain) that this model, or the adapter of that name, was tuned for.
    domains: dict[str, str] = {}
    run: LocalModel = LocalModel()


class HybridTier(Tier):
    """Drafts of the small model, verified token by token."""

    model_id: str = EMBEDDED_MODEL
    quantization: str | None = None
    verifier_model: str = EMBEDDED_MODEL
    # Unset: lossless verification. Set: the probability that the verifier must give a drafted token.
    acceptance_threshold: Share | None = None
    # Hand over to the frontier when the accepted share of the last `window` drafts falls below; 0: never.
    escalate_below: Share = 0.0
    window: Annotated[int, Field(gt=0)] = 64
    draft_tokens: Annotated[int, Field(gt=0, le=64)] = 4
    # Share of the frontier's expected gain over the SLM that the verifier's model brings.
    recovered_gain: Share = 0.5
    run: LocalModel = LocalModel()


class FrontierTier(Tier):
    """A model of a provider."""

    model_id: str = "gpt-4o"
    provider: str = "cloud"
    max_context: Annotated[int, Field(gt=0)] = 128_000
    max_tokens: Annotated[int, Field(gt=0)] = 1024
    fallback_enabled: bool = True


class Tiers(Section):
    """The three tiers, cheapest first."""

    slm: SlmTier = SlmTier()
    hybrid: HybridTier = HybridTier()
    frontier: FrontierTier = FrontierTier()


class Alerting(Section):
    """Bounds past which a warning is logged and the alert metric is set."""

    latency_p95_threshold_ms: Annotated[float, Field(gt=0)] = 5_000
    schema_fail_rate_threshold: Share = 0.05


MetricName = Literal[
    "routing_distribution",
    "p95_latency",
    "token_acceptance_rate",
    "cost_per_query",
    "schema_validation_failures",
]


class Observability(Section):
    """Logs, metrics, traces."""

    metrics: list[MetricName] = []
    alerting: Alerting = Alerting()
    log_format: Literal["json", "console"] = "json"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    # Prometheus text format; 0 takes a free port, unset serves none.
    metrics_port: Port | None = None


class Service(Section):
    """What every server has."""

    host: str = "127.0.0.1"
    port: Port
    # A write that the client does not read for so long ends the stream.
    stalled_reader_timeout_s: Seconds = 30
    # Time that streams get to finish at shutdown, and the pause before, in which balancers learn of it.
    drain_grace_s: Annotated[float, Field(ge=0)] = 10
    drain_delay_s: Annotated[float, Field(ge=0)] = 0.5
    # Streams at once; past it RESOURCE_EXHAUSTED.
    max_streams: Annotated[int, Field(gt=0)] = 512


class RouterService(Service):
    """The router and where its upstreams are: one address, several, or a DNS name of replicas."""

    port: Port = 50051
    slm_worker: list[Target] = ["127.0.0.1:50052"]
    verifier: list[Target] = ["127.0.0.1:50053"]
    frontier_proxy: list[Target] = ["127.0.0.1:50054"]


class SlmWorkerService(Service):
    """The small model's server."""

    port: Port = 50052


class VerifierService(Service):
    """The larger local model's server."""

    port: Port = 50053
    # Drafts come from here.
    slm_worker: list[Target] = ["127.0.0.1:50052"]
    frontier_proxy: list[Target] = ["127.0.0.1:50054"]


class FrontierProxyService(Service):
    """The door to providers."""

    port: Port = 50054
    # Answers where no key is configured.
    stand_in_worker: list[Target] = ["127.0.0.1:50052"]


class Services(Section):
    """The four services."""

    router: RouterService = RouterService()
    slm_worker: SlmWorkerService = SlmWorkerService()
    verifier: VerifierService = VerifierService()
    frontier_proxy: FrontierProxyService = FrontierProxyService()


class Provider(Section):
    """A frontier provider. Its key comes from the environment or a file, never from this section."""

    kind: Literal["openai", "anthropic", "gemini", "openai_compatible"]
    base_url: str | None = None
    api_key_env: str | None = None
    api_key_file: Path | None = None
    # Of this provider, in the order of preference.
    models: list[str] = []
    connect_timeout_s: Seconds = 5
    first_token_timeout_s: Seconds = 60
    inter_token_timeout_s: Seconds = 30


class Price(Section):
    """USD per million tokens and the date on which they were read."""

    input_usd_per_million: Annotated[float, Field(ge=0)]
    cached_input_usd_per_million: Annotated[float, Field(ge=0)] | None = None
    output_usd_per_million: Annotated[float, Field(ge=0)]
    max_context: Annotated[int, Field(gt=0)] = 128_000
    as_of: str


class Frontier(Section):
    """Providers, prices and budgets of the frontier proxy."""

    # Empty: the well-known providers whose key variables are set.
    providers: dict[str, Provider] = {}
    # Over the packaged price table.
    prices: dict[str, Price] = {}
    # USD per tenant; the empty name is the tenant of requests that state none.
    budgets_usd: dict[str, Annotated[float, Field(ge=0)]] = {}
    # Whether the local stand-in may answer where no provider is configured.
    stand_in: bool = True


class Models(Section):
    """The model store."""

    # Where models are kept; the user's cache folder where unset.
    directory: Path | None = None
    # A manifest beside the packaged one, for models of one's own.
    manifest: Path | None = None
    # Whether missing models may be fetched.
    download: bool = True


class Receipts(Section):
    """What is kept of each decision."""

    # Prompts and conversations, for replays with another classifier; never of requests with no_store.
    store_prompts: bool = False
    # Decisions kept; older ones are pruned behind an anchor of the hash chain.
    max_decisions: Annotated[int, Field(gt=0)] = 200_000
    # Name of the variable with a PostgreSQL address (postgresql://...); SQLite in the state folder where
    # unset.
    postgres_env: str | None = None


class State(Section):
    """What outlives a restart, and what replicas share."""

    # Folder of the databases (decisions, ledger, traces); the user's state folder where unset.
    directory: Path | None = None
    receipts: Receipts = Receipts()
    # Name of the variable with the address of a Valkey or Redis server (valkey://...), through which router
    # replicas share the controller's state; each holds its own where unset.
    shared_env: str | None = None


class Viewer(Section):
    """The local trace page of `weir up`."""

    http_port: Port = 8050
    otlp_port: Port = 4317
