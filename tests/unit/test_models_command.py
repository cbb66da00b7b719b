"""`weir models`: exit codes and what is said."""

import hashlib
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from weir.cli.models import models_app
from weir.common.config import load_settings
from weir.common.config.model import EMBEDDED_MODEL
from weir.models.configured import configured_models
from weir.models.manifest import load_manifest

CONTENT = b"a model"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The store's folder; its manifest takes the embedded model from a local folder."""
    (tmp_path / "model.gguf").write_bytes(CONTENT)
    file = {"name": "model.gguf", "size": len(CONTENT), "sha256": hashlib.sha256(CONTENT).hexdigest()}
    entry = {"license": "MIT", "files": [file], "sources": [{"kind": "path", "folder": str(tmp_path)}]}
    (tmp_path / "manifest.yaml").write_bytes(msgspec.yaml.encode({"models": {EMBEDDED_MODEL: entry}}))
    monkeypatch.setenv("WEIR_MODELS__MANIFEST", str(tmp_path / "manifest.yaml"))
    monkeypatch.setenv("WEIR_MODELS__DIRECTORY", str(tmp_path / "store"))
    monkeypatch.delenv("WEIR_CONFIG", raising=False)
    return tmp_path / "store"


def test_pull_without_a_name_fetches_what_is_configured(store: Path) -> None:
    result = CliRunner().invoke(models_app, ["pull"])
    assert result.exit_code == 0, result.output
    assert (store / EMBEDDED_MODEL / "model.gguf").read_bytes() == CONTENT


def test_list_shows_license_and_state(store: Path) -> None:
    assert "missing" in CliRunner().invoke(models_app, ["list"]).output
    CliRunner().invoke(models_app, ["pull"])
    output = CliRunner().invoke(models_app, ["list"]).output
    assert "MIT" in output
    assert "ready" in output


def test_verify_fails_on_damage_and_says_what_to_do(store: Path) -> None:
    runner = CliRunner()
    runner.invoke(models_app, ["pull"])
    assert runner.invoke(models_app, ["verify"]).exit_code == 0
    (store / EMBEDDED_MODEL / "model.gguf").write_bytes(b"A model")
    result = runner.invoke(models_app, ["verify"])
    assert result.exit_code == 1
    assert f"weir models pull {EMBEDDED_MODEL}" in result.output.replace("\n", " ")


def test_unknown_name_exits_with_a_sentence(store: Path) -> None:
    result = CliRunner().invoke(models_app, ["pull", "absent"])
    assert result.exit_code == 1
    assert "No model 'absent'" in result.output


def test_models_run_elsewhere_or_given_by_path_need_no_pull(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEIR_TIERS__SLM__RUN__ENGINE", "openai")
    monkeypatch.setenv("WEIR_TIERS__HYBRID__RUN__PATH", "/models/large.gguf")
    assert configured_models(load_settings(), load_manifest()) == []
    monkeypatch.undo()
    assert configured_models(load_settings(), load_manifest()) == [EMBEDDED_MODEL]
