"""From the settings to the models on offer: providers with keys, prices, and the order of candidates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import structlog

from weir.common.config import ConfigError, Settings
from weir.common.config.frontier import Provider as ProviderSettings
from weir.frontier_proxy.circuits import measured
from weir.frontier_proxy.keys import WELL_KNOWN, find_key, key_source
from weir.frontier_proxy.network import route_to
from weir.frontier_proxy.prices import ModelPrice, load_prices
from weir.frontier_proxy.providers.anthropic import AnthropicProvider
from weir.frontier_proxy.providers.base import Access, Pace, Provider
from weir.frontier_proxy.providers.gemini import GeminiProvider
from weir.frontier_proxy.providers.http import HttpClient
from weir.frontier_proxy.providers.openai import OpenAIProvider
from weir.frontier_proxy.providers.openai_responses import OpenAIResponsesProvider
from weir.frontier_proxy.providers.replay import ReplayProvider
from weir.frontier_proxy.providers.stand_in import StandInProvider
from weir.frontier_proxy.selection import Missing, Selection

log = structlog.get_logger(__name__)
# The provider of the configuration that leaves the choice to the price table.
ANY_PROVIDER = "cloud"
_ADDRESSES = {
    "openai": "https://api.openai.com/v1",
    "openai_responses": "https://api.openai.com/v1",
    "anthropic": "https://api.anthropic.com/v1",
    "gemini": "https://generativelanguage.googleapis.com/v1beta",
}
# Kinds that sell another kind's models.
_SELLER = {"openai_responses": "openai"}


@dataclass(frozen=True, slots=True)
class _Source:
    """A provider of the configuration, or a well-known one. ``explicit``: its models were listed."""

    name: str
    settings: ProviderSettings
    models: tuple[str, ...]
    provider: Provider | None
    explicit: bool


def select(
    settings: Settings, environ: Mapping[str, str], http: HttpClient, stand_in: StandInProvider
) -> Selection:
    """Build the selection.

    Raises:
        ConfigError: a model without a price, an unknown provider, one without an address, an unreadable key.
    """
    prices = load_prices(settings.frontier.prices)
    tier = settings.tiers.frontier
    if tier.model_id not in prices:
        raise ConfigError(_unpriced("tiers.frontier.model_id", tier.model_id))
    sources = _sources(settings, prices, environ, http)
    candidates, missing = [], []
    for source in sources:
        for model in source.models:
            if model not in prices:
                raise ConfigError(_unpriced(f"frontier.providers.{source.name}.models", model))
            if source.provider:
                candidates.append((source, measured(source.provider, prices[model], settings.frontier)))
            else:
                missing.append(Missing(source.name, prices[model], key_source(source.settings)))
    preferred = [
        c for s, c in candidates if c.model == tier.model_id and tier.provider in (ANY_PROVIDER, s.name)
    ]
    others = [c for s, c in candidates if s.explicit and c not in preferred] if tier.fallback_enabled else []
    frontier, own = settings.frontier, prices[tier.model_id]
    local = measured(stand_in, own, frontier) if frontier.stand_in else None
    offered = [candidate for _, candidate in candidates]
    return Selection(tier.model_id, offered, missing=missing, order=[*preferred, *others], stand_in=local)


def _unpriced(path: str, model: str) -> str:
    return (
        f"{path}: no price is known for '{model}'; add frontier.prices.{model} "
        "(input_usd_per_million, output_usd_per_million, as_of), with 0 where it is free."
    )


def _sources(
    settings: Settings, prices: Mapping[str, ModelPrice], environ: Mapping[str, str], http: HttpClient
) -> list[_Source]:
    tier = settings.tiers.frontier
    configured = settings.frontier.providers
    if configured:
        if tier.provider not in (ANY_PROVIDER, *configured):
            known = ", ".join((ANY_PROVIDER, *configured))
            raise ConfigError(f"tiers.frontier.provider: no provider '{tier.provider}'; known are: {known}.")
    else:
        if tier.provider not in (ANY_PROVIDER, *WELL_KNOWN):
            known = ", ".join((ANY_PROVIDER, *WELL_KNOWN))
            raise ConfigError(f"tiers.frontier.provider: no provider '{tier.provider}'; known are: {known}.")
        configured = {name: ProviderSettings(kind=name) for name in WELL_KNOWN}
    return [
        _source(name, provider, _models(settings, name, provider, prices), environ, http)
        for name, provider in configured.items()
    ]


def _models(
    settings: Settings, name: str, provider: ProviderSettings, prices: Mapping[str, ModelPrice]
) -> tuple[str, ...]:
    """Return a provider's models: those listed, else all of its kind; the tier's own where it sells it.

    A replay plays for any model, and unless told otherwise for the tier's.
    """
    tier = settings.tiers.frontier
    kind = _SELLER.get(provider.kind, provider.kind)
    models = provider.models or [model for model, price in prices.items() if price.kind == kind]
    sells = kind in ("replay", prices[tier.model_id].kind) and tier.provider == ANY_PROVIDER
    if (sells or tier.provider == name) and tier.model_id not in models:
        models = [tier.model_id, *models]
    return tuple(models)


def _source(
    name: str,
    settings: ProviderSettings,
    models: tuple[str, ...],
    environ: Mapping[str, str],
    http: HttpClient,
) -> _Source:
    if settings.prefill and settings.kind != "openai_compatible":
        raise ConfigError(
            f"frontier.providers.{name}.prefill: only an openai_compatible provider can be told so."
        )
    provider = _provider(name, settings, environ, http)
    return _Source(name, settings, models, provider, explicit=bool(settings.models))


def _provider(
    name: str, settings: ProviderSettings, environ: Mapping[str, str], http: HttpClient
) -> Provider | None:
    """Return the provider, or ``None`` where it lacks its key for good: one in a file may come."""
    if settings.recording:
        pace = settings.tokens_per_second, settings.replay_first_token_s
        return ReplayProvider(Access(name, settings.kind, ""), settings.recording, *pace)
    access = _access(name, settings, environ)
    if access is None:
        return None
    if settings.kind == "anthropic":
        return AnthropicProvider(access, http)
    if settings.kind == "gemini":
        return GeminiProvider(access, http)
    if settings.kind == "openai_responses":
        return OpenAIResponsesProvider(access, http)
    return OpenAIProvider(access, http, prefill=settings.prefill)


def _access(name: str, settings: ProviderSettings, environ: Mapping[str, str]) -> Access | None:
    address = (settings.base_url or _ADDRESSES.get(settings.kind, "")).rstrip("/")
    if not address:
        raise ConfigError(
            f"frontier.providers.{name}.base_url: an openai_compatible provider needs an address."
        )
    key = find_key(name, settings, environ)
    if key.source and not key.current() and not settings.api_key_file:
        return None
    route = route_to(name, settings, address)
    pace = Pace(settings.first_token_timeout_s, settings.inter_token_timeout_s)
    return Access(name, settings.kind, address, key, route, settings.connect_timeout_s, pace)
