"""The TensorRT-LLM engine as the servers see it: codec here, inference in the core process."""

from __future__ import annotations

import asyncio
from pathlib import Path

from weir.common.config.model import LocalModel
from weir.common.errors import ErrorCode, WeirError
from weir.engines.base import Capability, EngineInfo
from weir.engines.core.client import CoreClient, options_dict
from weir.engines.core.engine import CoreEngine
from weir.engines.core.messages import Start
from weir.engines.tensorrt_llm.availability import require_tensorrt_llm
from weir.engines.tensorrt_llm.checkpoint import read_checkpoint
from weir.engines.tensorrt_llm.launch import validate
from weir.engines.tensorrt_llm.options import Options
from weir.engines.tensorrt_llm.quantization import accepted
from weir.engines.text.codec import Codec, load_codec
from weir.engines.text.draft_tokenizer import require_same_tokenizer
from weir.models.store import ModelStore

_WARM_UP = "The quick brown fox jumps over the lazy dog, and the dog sleeps on."


def create(
    model_id: str,
    run: LocalModel,
    store: ModelStore,
    *,
    max_context: int,
    quantization: str | None = None,
) -> CoreEngine:
    """Return an engine over a Hugging Face checkpoint folder; imports neither PyTorch nor TensorRT-LLM.

    Args:
        model_id: the name under which the model is served.
        store: asked for the folder where ``run.path`` is unset.
        max_context: tokens of prompt and answer; the model's own limit where that is lower.
        quantization: the configured name, held against the checkpoint's own; unset takes the checkpoint's.

    Raises:
        WeirError: MODEL_UNAVAILABLE without the package, a GPU, or the model's files.
    """
    require_tensorrt_llm()
    model = store.resolve(model_id, run.path)

    async def read_codec() -> Codec:
        return await asyncio.to_thread(_read, model.path, run, quantization)

    def launch(codec: Codec) -> CoreClient:
        options = Options(
            model=str(model.path),
            run=run.model_dump(mode="json", exclude_unset=True),
            max_context=min(max_context, codec.max_context or max_context),
            stop_ids=sorted(codec.stop_ids),
            warm_up=codec.encode(_WARM_UP),
            quantization=quantization or "",
        )
        return CoreClient(Start("tensorrt_llm", options_dict(options)))

    def describe(codec: Codec, client: CoreClient) -> EngineInfo:
        facts = client.ready
        return EngineInfo(
            model=model.model_id,
            engine="tensorrt_llm",
            quantization=facts.quantization,
            max_context=facts.max_context,
            vocab_size=codec.vocab_size,
            tokenizer_sha256=codec.sha256,
            capabilities=frozenset(map(Capability, facts.capabilities)),
            adapters=tuple(facts.adapters),
            stand_in=model.stand_in,
        )

    return CoreEngine(read_codec, launch, describe, max_sessions=run.max_sessions)


def _read(path: Path, run: LocalModel, quantization: str | None) -> Codec:
    """Check what can be checked before anything heavy is loaded, and read the tokenizer."""
    validate(run)
    accepted(quantization, read_checkpoint(path).quantization)
    try:
        codec = load_codec(path)
    except (OSError, ValueError) as error:
        hint = f"The tokenizer of {path.name} cannot be read: {error}."
        raise WeirError(ErrorCode.MODEL_UNAVAILABLE, hint) from error
    if run.speculative == "draft_model" and run.speculative_model is not None:
        require_same_tokenizer(codec, run.speculative_model)
    return codec
