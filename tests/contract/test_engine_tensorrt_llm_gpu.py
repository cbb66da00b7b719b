"""The engine contract over TensorRT-LLM itself, where its package, a GPU and a checkpoint are."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.contract.engine_contract import EngineContract
from weir.common.config.model import LocalModel, Models
from weir.common.errors import WeirError
from weir.engines import tensorrt_llm
from weir.engines.core.engine import CoreEngine
from weir.engines.tensorrt_llm.availability import require_tensorrt_llm
from weir.models.store import ModelStore

pytestmark = pytest.mark.asyncio(loop_scope="module")

# A chat model's Hugging Face folder, as compose.yaml takes it too.
CHECKPOINT = "TENSORRT_LLM_CHECKPOINT"


def _checkpoint() -> Path:
    try:
        require_tensorrt_llm()
    except WeirError as missing:
        pytest.skip(missing.hint)
    if CHECKPOINT not in os.environ:
        pytest.skip(f"{CHECKPOINT} names no checkpoint folder")
    return Path(os.environ[CHECKPOINT])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine() -> AsyncIterator[CoreEngine]:
    """One engine for the module: loading takes a minute."""
    run = LocalModel(engine="tensorrt_llm", path=_checkpoint(), max_running=8, max_sessions=4)
    engine = tensorrt_llm.create("checkpoint", run, ModelStore(Models()), max_context=2048)
    await engine.start()
    yield engine
    await engine.aclose()


class TestTensorrtLlm(EngineContract):
    """The contract."""
