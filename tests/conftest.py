"""Fixtures that several suites share."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

# Before NumPy is loaded: on the tests' small matrices its threads wait for each other longer than they
# compute, and several times as long where other processes are busy too.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# Where no bytecode may lie beside the sources, it is kept apart: kept nowhere, every process that a test
# starts compiles all that it imports.
if sys.dont_write_bytecode:
    _bytecode = str(Path(__file__).parents[1] / ".pytest_cache" / "bytecode")
    sys.dont_write_bytecode, sys.pycache_prefix = False, _bytecode
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = _bytecode

import pytest

from weir.common.config import Settings
from weir.common.config.model import EMBEDDED_MODEL, Models
from weir.models.store import ModelStore

if TYPE_CHECKING:
    from tests.postgres_server import PostgresServer


@pytest.fixture(scope="session")
def embedded_model() -> Path:
    """The embedded model's file, pulled once per machine into the user's cache."""
    return asyncio.run(ModelStore(Models()).pull(EMBEDDED_MODEL)).path


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server of the tests' own."""
    from tests.postgres_server import postgres_server

    with postgres_server() as server:
        yield server


@pytest.fixture(autouse=True)
def _state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's own state, settings or keys."""
    monkeypatch.setenv("WEIR_STATE__DIRECTORY", str(tmp_path / "state"))
    for variable in ("WEIR_CONFIG", "OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY"):
        monkeypatch.delenv(variable, raising=False)
    return


@pytest.fixture
def settings() -> Settings:
    """The defaults on free ports, with short drains."""
    services = {
        name: {"port": 0, "drain_delay_s": 0, "drain_grace_s": 2}
        for name in ("router", "slm_worker", "verifier", "frontier_proxy")
    }
    return Settings.model_validate({"services": services})
