"""Fixtures that the services' tests share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest

from tests.services.engine_cores import MAX_SESSIONS
from weir.common.config import Settings
from weir.engines.core.engine import CoreEngine
from weir.engines.registry import create_engine
from weir.models.store import ModelStore


@pytest.fixture(scope="session")
async def verifier_engine(embedded_model: Path) -> AsyncIterator[CoreEngine]:
    """The engine that a verifier runs by default, with places for three sessions; for tests that spare it."""
    del embedded_model
    settings = Settings()
    tier = settings.tiers.hybrid
    run = tier.run.model_copy(update={"max_sessions": MAX_SESSIONS})
    store = ModelStore(settings.models)
    engine = create_engine(tier.verifier_model, run, store, max_context=tier.max_context, sessions_only=True)
    await engine.start()
    yield cast("CoreEngine", engine)
    await engine.aclose()
