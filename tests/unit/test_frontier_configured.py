"""Which provider a configuration's entry makes, of every kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from weir.common.config import ConfigError, Settings
from weir.frontier_proxy.configured import select
from weir.frontier_proxy.providers.anthropic import AnthropicProvider
from weir.frontier_proxy.providers.gemini import GeminiProvider
from weir.frontier_proxy.providers.http import HttpClient
from weir.frontier_proxy.providers.openai import OpenAIProvider
from weir.frontier_proxy.providers.openai_responses import OpenAIResponsesProvider
from weir.frontier_proxy.providers.replay import ReplayProvider
from weir.frontier_proxy.providers.stand_in import StandInProvider
from weir.frontier_proxy.selection import Selection

RECORDING = Path(__file__).parents[1] / "data" / "replay_sample.jsonl"
KEYS = {"OPENAI_API_KEY": "sk-openai", "ANTHROPIC_API_KEY": "sk-anthropic", "GEMINI_API_KEY": "sk-gemini"}


def selection(providers: dict[str, Any], environ: dict[str, str] = KEYS, **sections: Any) -> Selection:
    settings = Settings.model_validate({**sections, "frontier": {"providers": providers}})
    return select(settings, environ, HttpClient(), StandInProvider(["127.0.0.1:1"]))


@pytest.mark.parametrize(
    ("kind", "made", "address"),
    [
        ("openai", OpenAIProvider, "https://api.openai.com/v1"),
        ("openai_responses", OpenAIResponsesProvider, "https://api.openai.com/v1"),
        ("anthropic", AnthropicProvider, "https://api.anthropic.com/v1"),
        ("gemini", GeminiProvider, "https://generativelanguage.googleapis.com/v1beta"),
    ],
)
def test_each_vendors_kind_has_its_address_and_goes_to_public_networks_alone(
    kind: str, made: type, address: str
) -> None:
    (candidate,) = selection({"lab": {"kind": kind, "models": ["gpt-4o"]}}).candidates("gpt-4o")
    assert isinstance(candidate.provider, made)
    assert candidate.provider.access.base_url == address
    assert candidate.provider.access.route.guarded


def test_the_responses_api_sells_the_same_models() -> None:
    chat, responses = (selection({"lab": {"kind": kind}}) for kind in ("openai", "openai_responses"))
    assert [s.model for s in responses.models()] == [s.model for s in chat.models()]
    assert responses.candidates("")[0].model == "gpt-4o"


def test_a_replay_plays_for_the_tiers_model_without_a_key() -> None:
    chosen = selection({"lab": {"kind": "replay", "recording": str(RECORDING)}}, environ={})
    (candidate,) = chosen.candidates("")
    assert isinstance(candidate.provider, ReplayProvider)
    assert (candidate.model, candidate.provider.access.replay) == ("gpt-4o", True)


def test_a_replay_plays_for_the_models_that_are_listed() -> None:
    entry = {"kind": "replay", "recording": str(RECORDING), "models": ["claude-haiku-4-5"]}
    chosen = selection({"lab": entry}, environ={}, tiers={"frontier": {"model_id": "claude-haiku-4-5"}})
    assert [candidate.model for candidate in chosen.candidates("")] == ["claude-haiku-4-5"]


def test_a_compatible_server_needs_its_address() -> None:
    with pytest.raises(ConfigError, match=r"frontier\.providers\.lab\.base_url"):
        selection({"lab": {"kind": "openai_compatible", "models": ["gpt-4o"]}})


def test_a_server_in_a_network_of_ones_own_is_reached_where_that_is_allowed() -> None:
    entry = {"kind": "openai_compatible", "base_url": "http://10.0.0.7:8000/v1/", "models": ["gpt-4o"]}
    with pytest.raises(ConfigError, match="allow_private"):
        selection({"lab": entry})
    (candidate,) = selection({"lab": {**entry, "allow_private": True}}).candidates("gpt-4o")
    assert candidate.provider.access.base_url == "http://10.0.0.7:8000/v1"
    assert not candidate.provider.access.route.guarded
