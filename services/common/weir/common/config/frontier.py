"""The shape of the frontier proxy's configuration: providers, prices, budgets, and how streams survive."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from weir.common.config.base import Seconds, Section, Share

ProviderKind = Literal["openai", "openai_responses", "anthropic", "gemini", "openai_compatible", "replay"]
Usd = Annotated[float, Field(ge=0)]


class Provider(Section):
    """A frontier provider. Its key comes from the environment or a file, never from this section."""

    kind: ProviderKind
    base_url: str | None = None
    api_key_env: str | None = None
    # Read again when it changes.
    api_key_file: Path | None = None
    # Of this provider, in the order of preference.
    models: list[str] = []
    # Whether an openai_compatible server continues a last assistant turn (`continue_final_message`).
    prefill: bool = False
    # Certificates to trust beside the system's, as PEM.
    ca_bundle: Path | None = None
    # Of an HTTP proxy; the environment's where unset, none for "".
    proxy: str | None = None
    # Whether the address may be one of a private network, and need not be encrypted.
    allow_private: bool = False
    connect_timeout_s: Seconds = 5
    first_token_timeout_s: Seconds = 60
    inter_token_timeout_s: Seconds = 30
    # Of kind replay: a file of recorded answers (JSON lines), and how fast they are played.
    recording: Path | None = None
    tokens_per_second: Annotated[float, Field(gt=0)] = 50
    replay_first_token_s: Annotated[float, Field(ge=0)] = 0.3

    @model_validator(mode="after")
    def _recording_where_replayed(self) -> Self:
        if (self.kind == "replay") != (self.recording is not None):
            raise ValueError("a provider of kind replay, and only such, needs a recording")
        return self


class Price(Section):
    """USD per million tokens and the date on which they were read."""

    input_usd_per_million: Usd
    cached_input_usd_per_million: Usd | None = None
    cache_write_usd_per_million: Usd | None = None
    output_usd_per_million: Usd
    # Of reasoning, where it is not the output's.
    reasoning_usd_per_million: Usd | None = None
    max_context: Annotated[int, Field(gt=0)] = 128_000
    as_of: str


class Budget(Section):
    """What may be spent in a period; periods begin at midnight UTC and on the first of the month.

    Every budget that matches a request holds.
    """

    # Of one tenant ("" is that of requests without one); unset: of each by itself; "*": of all together.
    tenant: str | None = None
    # On one model; unset: on all.
    model: str | None = None
    per: Literal["day", "month", "total"] = "month"
    usd: Usd


class Retries(Section):
    """Tries of one request before its first text. A rate limit's own delay is kept."""

    # Beyond the first of each model.
    per_model: Annotated[int, Field(ge=0, le=5)] = 1
    base_delay_s: Seconds = 0.2
    # A provider that asks for a longer wait is passed over.
    longest_delay_s: Seconds = 2.0


class CircuitBreaker(Section):
    """When a model of a provider is no longer asked."""

    window_s: Seconds = 30
    # Calls in the window before shares mean anything.
    min_calls: Annotated[int, Field(gt=0)] = 10
    failure_share: Annotated[float, Field(gt=0, le=1)] = 0.5
    # A first token that takes longer than this is slow; unset: slowness opens nothing.
    slow_first_token_s: Seconds | None = 30
    slow_share: Annotated[float, Field(gt=0, le=1)] = 0.8
    # Failures in a row that open it whatever the window holds.
    consecutive_failures: Annotated[int, Field(gt=0)] = 5
    open_s: Seconds = 15
    # Open times double with each failed probe, up to this.
    longest_open_s: Seconds = 120
    # Successful probes that close it.
    probes: Annotated[int, Field(gt=0)] = 2


class Hedging(Section):
    """Asking a second model while the first has not begun; the loser is cancelled and paid for."""

    enabled: bool = False
    # Of the first tokens' times of the model that is waited for.
    quantile: Annotated[float, Field(gt=0, lt=1)] = 0.95
    # Times that must be known, and bounds of the delay.
    min_samples: Annotated[int, Field(gt=0)] = 20
    min_delay_s: Seconds = 0.1
    max_delay_s: Seconds = 10
    # Of all spending in the last hour that hedges may add.
    max_spend_share: Share = 0.05


class Frontier(Section):
    """Providers, prices and budgets of the frontier proxy."""

    # Empty: the well-known providers whose key variables are set.
    providers: dict[str, Provider] = {}
    # Over the packaged price table.
    prices: dict[str, Price] = {}
    # USD per tenant over all time; the empty name is the tenant of requests that state none.
    budgets_usd: dict[str, Usd] = {}
    budgets: list[Budget] = []
    # Name of the variable with a PostgreSQL address (postgresql://...) for the ledger; SQLite in the state
    # folder where unset.
    ledger_dsn_env: str | None = None
    # Whether the local stand-in may answer where no provider is configured.
    stand_in: bool = True
    retries: Retries = Retries()
    circuit_breaker: CircuitBreaker = CircuitBreaker()
    hedging: Hedging = Hedging()
    # What follows a stream that breaks behind its first text: another model continues it, or an error.
    after_first_text: Literal["continue", "fail"] = "continue"
    # Folder of a model that finds names (ONNX, token classification); none are looked for where unset.
    names_model: Path | None = None
