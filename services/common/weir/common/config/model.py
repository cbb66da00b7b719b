"""The configuration's shape. Every field has a default, so that the embedded set-up needs no file."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from weir.common.config.base import Port, Seconds, Section, Share

EngineName = Literal["openvino", "tensorrt_llm", "openai"]
ServerName = Literal["auto", "plain", "llama_cpp", "ollama", "sglang", "tensorrt_llm", "vllm"]

EMBEDDED_MODEL = "smollm2-135m-instruct"


def _target(value: str) -> str:
    if ":" not in value:
        raise ValueError("give it as host:port, dns:///name:port or unix:path")
    return value


Target = Annotated[str, AfterValidator(_target)]


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
    # Engine "tensorrt_llm": parallelism.
    tensor_parallel_size: Annotated[int, Field(gt=0)] = 1
    pipeline_parallel_size: Annotated[int, Field(gt=0)] = 1
    # Speculation inside the engine; "eagle3" is engine "tensorrt_llm"'s alone.
    speculative: Literal["none", "draft_model", "eagle3", "ngram"] = "none"
    speculative_model: Path | None = None
    speculative_tokens: Annotated[int, Field(gt=0)] = 4
    speculative_max_ngram: Annotated[int, Field(gt=0)] = 3
    # USD per million tokens, for the receipts; local inference counts as free unless priced here.
    input_usd_per_million: Annotated[float, Field(ge=0)] = 0.0
    output_usd_per_million: Annotated[float, Field(ge=0)] = 0.0

    @model_validator(mode="after")
    def _drafts_of_a_model(self) -> Self:
        drafting = self.speculative in ("draft_model", "eagle3")
        if drafting and self.speculative_model is None:
            raise ValueError(
                f"speculative is '{self.speculative}' but speculative_model is not set; give the path of the "
                "draft model, or set speculative to 'ngram' or 'none'"
            )
        if not drafting and self.speculative_model is not None:
            raise ValueError(
                f"speculative_model is set but speculative is '{self.speculative}'; set speculative to "
                "'draft_model' or 'eagle3', or leave speculative_model out"
            )
        return self


class Drafting(Section):
    """How a worker drafts for a verifier."""

    # "lookup" copies what followed an earlier occurrence of the last tokens; "auto" does where it pays.
    method: Literal["auto", "model", "lookup"] = "auto"
    # Tokens that must match, from the most to the fewest.
    max_ngram: Annotated[int, Field(gt=0, le=16)] = 4
    min_ngram: Annotated[int, Field(gt=0, le=16)] = 2

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min_ngram > self.max_ngram:
            raise ValueError("min_ngram must not be above max_ngram")
        return self


class SlmTier(Tier):
    """The small model alone."""

    model_id: str = EMBEDDED_MODEL
    quantization: str | None = None
    speculative_draft: bool = True
    output_schema_strict: bool = True
    # Domains (Policy.domain) that this model, or the adapter of that name, was tuned for.
    domains: dict[str, str] = {}
    drafting: Drafting = Drafting()
    run: LocalModel = LocalModel()


class HybridTier(Tier):
    """Drafts of the small model, verified token by token."""

    model_id: str = EMBEDDED_MODEL
    quantization: str | None = None
    verifier_model: str = EMBEDDED_MODEL
    # Unset: lossless verification. Set: the probability that the verifier must give a drafted token.
    acceptance_threshold: Share | None = None
    # The same bound as Big Little Decoder's rollback, in nats: -ln(acceptance_threshold). Set one of the two.
    rollback_distance: Annotated[float, Field(gt=0)] | None = None
    # Big Little Decoder's fallback: the drafter hands over a token that it gives less itself; 0: never.
    fallback_below: Share = 0.0
    # After a rejection under a threshold the verifier writes one token, or until both agree again.
    takeover: Literal["token", "stretch"] = "token"
    # Hand over to the frontier when of the drafts in the last `window` tokens fewer stood; 0: never.
    escalate_below: Share = 0.0
    # The same when the verifier's own mean probability of the last `window` tokens falls below; 0: never.
    escalate_unsure_below: Share = 0.0
    window: Annotated[int, Field(gt=0)] = 64
    # Drafted tokens of a round: fixed, or what pays best by the measured costs, at most `max_draft_tokens`.
    draft_tokens: Annotated[int, Field(gt=0, le=64)] | Literal["auto"] = "auto"
    max_draft_tokens: Annotated[int, Field(gt=0, le=64)] = 16
    # Where the verifier writes without drafts: feed along what followed the last tokens before, which saves a
    # pass where it is right. The text is the same.
    guesses: bool = True
    # Whether the worker drafts on while a chunk is judged: pays where the two share no processor.
    overlap: Literal["auto", "on", "off"] = "auto"
    # Drafts in another vocabulary: judged as text, sentence by sentence, or refused.
    other_tokenizers: Literal["text", "refuse"] = "text"
    # Share of the frontier's expected gain over the SLM that the verifier's model brings.
    recovered_gain: Share = 0.5
    run: LocalModel = LocalModel()

    @property
    def min_probability(self) -> float | None:
        """The probability that the verifier must give a drafted token; ``None`` is lossless verification."""
        if self.rollback_distance is not None:
            return math.exp(-self.rollback_distance)
        return self.acceptance_threshold

    @model_validator(mode="after")
    def _one_bound(self) -> Self:
        if self.acceptance_threshold is not None and self.rollback_distance is not None:
            raise ValueError(
                "acceptance_threshold and rollback_distance say the same in two ways "
                "(rollback_distance = -ln(acceptance_threshold)); set one of them"
            )
        return self


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
