"""Which candidates a configuration offers, and in which order."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from weir.common.config import Settings
from weir.common.errors import ErrorCode, WeirError
from weir.frontier_proxy.breaker import CircuitState
from weir.frontier_proxy.configured import select
from weir.frontier_proxy.providers.http import HttpClient
from weir.frontier_proxy.providers.stand_in import StandInProvider
from weir.frontier_proxy.selection import Candidate, Selection

OPENAI = {"OPENAI_API_KEY": "sk-openai"}
ANTHROPIC = {"ANTHROPIC_API_KEY": "sk-anthropic"}
BOTH = {
    "providers": {
        "anthropic": {"kind": "anthropic", "models": ["claude-haiku-4-5"]},
        "openai": {"kind": "openai", "models": ["gpt-4o"]},
    }
}


def selection(environ: dict[str, str], **sections: object) -> Selection:
    settings = Settings.model_validate(sections)
    return select(settings, environ, HttpClient(), StandInProvider(["127.0.0.1:1"]))


def names(chosen: Selection, model: str = "") -> list[tuple[str, str]]:
    return [(c.model, c.provider.access.name) for c in chosen.candidates(model)]


def break_down(candidate: Candidate) -> None:
    while permit := candidate.breaker.admit():
        permit.failed(ErrorCode.PROVIDER_FAILED)


def test_without_keys_the_stand_in_answers_for_the_configured_model() -> None:
    assert names(selection({})) == [("gpt-4o", "stand_in")]


def test_cloud_means_the_provider_that_sells_the_model() -> None:
    assert names(selection(OPENAI | ANTHROPIC)) == [("gpt-4o", "openai")]
    tiers = {"frontier": {"model_id": "claude-haiku-4-5"}}
    assert names(selection(OPENAI | ANTHROPIC, tiers=tiers)) == [("claude-haiku-4-5", "anthropic")]


def test_a_key_that_was_merely_found_is_no_fallback() -> None:
    assert names(selection(ANTHROPIC)) == [("gpt-4o", "stand_in")]
    assert names(selection(ANTHROPIC), "claude-haiku-4-5") == [("claude-haiku-4-5", "anthropic")]


def test_configured_models_are_fallbacks_after_the_tiers_own() -> None:
    both = [("gpt-4o", "openai"), ("claude-haiku-4-5", "anthropic")]
    assert names(selection(OPENAI | ANTHROPIC, frontier=BOTH)) == both


def test_the_fallback_can_be_switched_off() -> None:
    tiers = {"frontier": {"fallback_enabled": False}}
    assert names(selection(OPENAI | ANTHROPIC, frontier=BOTH, tiers=tiers)) == [("gpt-4o", "openai")]


def test_a_configured_fallback_goes_before_the_stand_in() -> None:
    assert names(selection(ANTHROPIC, frontier=BOTH)) == [("claude-haiku-4-5", "anthropic")]


def test_a_provider_that_waits_for_its_key_file_is_passed_over_until_it_is_filled(tmp_path: Path) -> None:
    file = tmp_path / "key"
    waiting = {"kind": "openai", "api_key_file": file, "models": ["gpt-4o"]}
    providers = {**BOTH["providers"], "openai": waiting}
    chosen = selection(ANTHROPIC, frontier={"providers": providers, "stand_in": False})
    assert names(chosen) == [("claude-haiku-4-5", "anthropic")]
    assert [status.model for status in chosen.models() if status.available] == ["claude-haiku-4-5"]
    with pytest.raises(WeirError, match=f"needs a key of provider 'openai': set {re.escape(str(file))}"):
        chosen.candidates("gpt-4o", frozenset({"gpt-4o"}))
    file.write_text("sk-late")
    assert names(chosen) == [("gpt-4o", "openai"), ("claude-haiku-4-5", "anthropic")]
    assert {status.model for status in chosen.models() if status.available} == {"gpt-4o", "claude-haiku-4-5"}


def test_the_stand_in_answers_until_the_key_file_is_filled(tmp_path: Path) -> None:
    file = tmp_path / "key"
    chosen = selection({}, frontier={"providers": {"openai": {"kind": "openai", "api_key_file": file}}})
    assert (names(chosen), chosen.stand_in) == ([("gpt-4o", "stand_in")], True)
    file.write_text("sk-late")
    assert (names(chosen), chosen.stand_in) == ([("gpt-4o", "openai")], False)


def test_an_open_circuit_is_passed_over_and_shown() -> None:
    chosen = selection(OPENAI | ANTHROPIC, frontier=BOTH)
    break_down(chosen.candidates("")[0])
    assert names(chosen) == [("claude-haiku-4-5", "anthropic")]
    assert [status.available for status in chosen.models()] == [False, True]
    assert [status.circuit for status in chosen.models()] == [CircuitState.OPEN, CircuitState.CLOSED]
    with pytest.raises(WeirError) as caught:
        chosen.candidates("gpt-4o")
    assert caught.value.code is ErrorCode.PROVIDER_FAILED
    assert caught.value.retry_after_s is not None


def test_a_rate_limit_is_named_where_it_is_what_keeps_everyone_away() -> None:
    chosen = selection(OPENAI)
    (only,) = chosen.candidates("")
    permit = only.breaker.admit()
    assert permit
    permit.rest(20)
    with pytest.raises(WeirError) as caught:
        chosen.candidates("")
    assert caught.value.code is ErrorCode.RATE_LIMITED
    assert caught.value.retry_after_s == pytest.approx(20, abs=1)


def test_each_model_of_a_provider_has_its_own_circuit() -> None:
    providers = {"openai": {"kind": "openai", "models": ["gpt-4o", "gpt-4o-mini"]}}
    chosen = selection(OPENAI, frontier={"providers": providers})
    break_down(chosen.candidates("gpt-4o")[0])
    assert names(chosen) == [("gpt-4o-mini", "openai")]


def test_the_configured_circuit_and_sample_size_reach_each_candidate() -> None:
    frontier = {"circuit_breaker": {"consecutive_failures": 1}, "hedging": {"min_samples": 1}}
    (only,) = selection(OPENAI, frontier=frontier).candidates("")
    only.times.add(0.5)
    assert only.times.quantile(0.5) == 0.5
    permit = only.breaker.admit()
    assert permit
    permit.failed(ErrorCode.PROVIDER_FAILED)
    assert only.breaker.state is CircuitState.OPEN


def test_a_key_is_in_no_repr() -> None:
    (candidate,) = selection(OPENAI).candidates("")
    assert "sk-openai" not in repr(candidate)
    assert "sk-openai" not in repr(candidate.provider.access)


def test_a_key_that_no_header_can_carry_is_refused() -> None:
    with pytest.raises(ValueError, match="OPENAI_API_KEY"):
        selection({"OPENAI_API_KEY": "sk-\nnot"})
