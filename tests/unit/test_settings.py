"""Settings load as users have them, and refuse what they do not know with the nearest known name."""

from __future__ import annotations

from pathlib import Path

import pytest

from weir.common.config import ConfigError, Settings, load_settings

USERS_FILE = Path(__file__).parents[2] / "deploy" / "inference-router-config.yaml"


def _written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_users_file_loads_as_it_stands() -> None:
    settings = load_settings(USERS_FILE)
    assert settings.routing.complexity_threshold == 0.72
    assert settings.tiers.hybrid.acceptance_threshold == 0.88
    assert settings.tiers.frontier.max_context == 128_000


def test_no_file_gives_the_embedded_set_up() -> None:
    settings = load_settings()
    assert settings.services.router.port == 50051
    assert settings.services.router.host == "127.0.0.1"


def test_environment_goes_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _written(tmp_path, "routing: {complexity_threshold: 0.5, latency_budget_ms: 70}")
    monkeypatch.setenv("WEIR_ROUTING__COMPLEXITY_THRESHOLD", "0.9")
    routing = load_settings(path).routing
    assert (routing.complexity_threshold, routing.latency_budget_ms) == (0.9, 70)


@pytest.mark.parametrize(
    ("text", "unknown", "nearest"),
    [
        ("routng: {}", "routng", "routing"),
        ("routing: {complexity_treshold: 1}", "routing.complexity_treshold", "routing.complexity_threshold"),
        ("tiers: {slm: {modelid: x}}", "tiers.slm.modelid", "tiers.slm.model_id"),
        (
            "frontier: {providers: {mine: {knd: openai}}}",
            "frontier.providers.mine.knd",
            "frontier.providers.mine.kind",
        ),
        (
            "routing: {rules: [{name: a}, {name: b, when: {domain: [law]}}]}",
            "routing.rules.1.when.domain",
            "routing.rules.1.when.domains",
        ),
    ],
)
def test_unknown_key_names_the_nearest(tmp_path: Path, text: str, unknown: str, nearest: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(_written(tmp_path, text))
    assert f"'{unknown}'" in str(caught.value)
    assert f"'{nearest}'" in str(caught.value)


def test_unknown_variable_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="WEIR_SERVICES__ROUTER__PORT"):
        load_settings(None, {"WEIR_SERVICES__ROUTER__PROT": "1"})


@pytest.mark.parametrize("text", ["[1, 2]", "routing: [", "routing: {complexity_threshold: 7}"])
def test_unusable_file_is_one_sentence(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(_written(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_missing_file_says_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.yaml: cannot be read"):
        load_settings(tmp_path / "absent.yaml")


def test_settings_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().routing.complexity_threshold = 0.1  # type: ignore[misc]


def test_the_two_names_of_the_acceptance_bound_exclude_each_other(tmp_path: Path) -> None:
    both = _written(tmp_path, "tiers: {hybrid: {acceptance_threshold: 0.88, rollback_distance: 0.1}}")
    with pytest.raises(ConfigError, match=r"tiers\.hybrid: .*set one of them"):
        load_settings(both)


@pytest.mark.parametrize(
    ("bound", "minimum"),
    [
        ("acceptance_threshold: 0.88", 0.88),
        ("rollback_distance: 0.127833", 0.88),
        ("acceptance_threshold: 0", 0.0),
        ("window: 8", None),
    ],
)
def test_either_name_gives_the_probability_that_drafts_need(
    tmp_path: Path, bound: str, minimum: float | None
) -> None:
    hybrid = load_settings(_written(tmp_path, f"tiers: {{hybrid: {{{bound}}}}}")).tiers.hybrid
    assert hybrid.min_probability == pytest.approx(minimum, abs=1e-6)


@pytest.mark.parametrize(
    "bad", ["fallback_below: 1.5", "takeover: forever", "rollback_distance: 0", "rollback_distance: .nan"]
)
def test_acceptance_settings_out_of_range_are_refused_by_name(tmp_path: Path, bad: str) -> None:
    with pytest.raises(ConfigError, match=f"tiers.hybrid.{bad.split(':')[0]}"):
        load_settings(_written(tmp_path, f"tiers: {{hybrid: {{{bad}}}}}"))
