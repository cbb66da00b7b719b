"""Fixtures that several suites share."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

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
