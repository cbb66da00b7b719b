"""The ``weir`` command: every subcommand is found, and a bad configuration is one sentence."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from weir.cli.main import COMMANDS, app

HEAVY = ("grpc", "pydantic", "openvino", "numpy", "aiohttp")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_subcommand_has_help(command: str) -> None:
    result = CliRunner().invoke(app, [command, "--help"], prog_name="weir")
    assert result.exit_code == 0
    assert f"weir {command}" in result.output


def test_an_unknown_subcommand_is_named() -> None:
    result = CliRunner().invoke(app, ["upp"])
    assert result.exit_code == 2
    assert "No such command 'upp'" in result.output


def test_the_entry_imports_nothing_heavy() -> None:
    code = f"import sys, weir.cli.main; print([m for m in {HEAVY!r} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("place", ["before", "after", "environment"])
def test_a_bad_configuration_is_one_sentence(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "weir.yaml"
    config.write_text("routing: {complexity_treshold: 0.5}")
    # The command passes the file on to what it starts by this variable; pytest takes it back.
    monkeypatch.setenv("WEIR_CONFIG", str(config) if place == "environment" else "")
    option = ["--config", str(config)]
    arguments = {
        "before": [*option, "ask", "Hi"],
        "after": ["ask", "Hi", *option],
        "environment": ["up"],
    }[place]
    result = CliRunner().invoke(app, arguments, env=dict(os.environ))
    assert result.exit_code == 2
    (line,) = result.output.splitlines()
    assert "did you mean 'routing.complexity_threshold'?" in line
