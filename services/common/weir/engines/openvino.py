"""The OpenVINO engine as the servers see it: codec here, inference in the core process."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Literal

from weir.common.config.model import LocalModel
from weir.common.errors import ErrorCode, WeirError
from weir.engines.base import Capability, EngineInfo
from weir.engines.core.client import CoreClient, options_dict
from weir.engines.core.engine import CoreEngine
from weir.engines.core.messages import Start
from weir.engines.core.openvino.options import Options
from weir.engines.text.codec import Codec, load_codec
from weir.engines.text.draft_tokenizer import require_same_tokenizer
from weir.engines.text.gguf_metadata import is_stand_in


def create(
    model_id: str,
    path: Path,
    run: LocalModel,
    *,
    max_context: int,
    cache: Path | None = None,
    quantization: str = "",
    stand_in: bool = False,
    sessions_only: bool = False,
) -> CoreEngine:
    """Return an engine over a GGUF file or an OpenVINO folder with ``tokenizer.json``.

    Args:
        model_id: the name under which the model is served.
        stand_in: another model was asked for; a GGUF file may say so of itself, too.
        cache: where the converted form of a GGUF file is kept; beside the file where unset.
        max_context: tokens of prompt and answer; the model's own limit where that is lower.
        sessions_only: raw-logits sessions and scoring alone, without a batch.

    Raises:
        WeirError: UNSUPPORTED where LoRA adapters are configured: the runtime applies them to a whole batch
            only, and to low-bit weights or to a converted GGUF file not at all, without saying so. And for
            speculation that it cannot run.
    """
    if run.adapters:
        hint = "Engine openvino cannot apply LoRA adapters; merge them into the model, or use another engine."
        raise WeirError(ErrorCode.UNSUPPORTED, hint)
    speculative = _speculative(run)

    def launch(codec: Codec) -> CoreClient:
        context = min(max_context, codec.max_context or max_context)
        options = Options(
            model=str(path),
            stop_ids=sorted(codec.stop_ids),
            max_context=context,
            cache=str(cache or path.parent / ".openvino") if path.is_file() else "",
            max_running=run.max_running,
            max_sessions=run.max_sessions,
            kv_cache_gb=run.kv_cache_gb,
            sessions_only=sessions_only,
            quantization=quantization,
            speculative=speculative,
            speculative_model=str(run.speculative_model or ""),
            speculative_tokens=run.speculative_tokens,
            speculative_max_ngram=run.speculative_max_ngram,
        )
        return CoreClient(Start("openvino", options_dict(options)))

    def describe(codec: Codec, client: CoreClient) -> EngineInfo:
        facts = client.ready
        return EngineInfo(
            model=model_id,
            engine="openvino",
            quantization=facts.quantization,
            max_context=facts.max_context,
            vocab_size=codec.vocab_size,
            tokenizer_sha256=codec.sha256,
            capabilities=frozenset(map(Capability, facts.capabilities)),
            stand_in=stand_in,
        )

    async def read_codec() -> Codec:
        nonlocal stand_in
        try:
            stand_in = stand_in or await asyncio.to_thread(is_stand_in, path)
            codec = await asyncio.to_thread(load_codec, path)
        except (OSError, ValueError) as error:
            hint = f"The tokenizer of {path.name} cannot be read: {error}."
            raise WeirError(ErrorCode.MODEL_UNAVAILABLE, hint) from error
        if speculative == "draft_model" and run.speculative_model is not None:
            await asyncio.to_thread(require_same_tokenizer, codec, run.speculative_model)
        return codec

    return CoreEngine(read_codec, launch, describe, max_sessions=run.max_sessions)


def _speculative(run: LocalModel) -> Literal["none", "draft_model", "ngram"]:
    if run.speculative == "eagle3":
        hint = (
            "Engine openvino runs no EAGLE-3 heads here: set run.speculative to 'draft_model' or 'ngram', or "
            "run.engine to 'tensorrt_llm'."
        )
        raise WeirError(ErrorCode.UNSUPPORTED, hint)
    return run.speculative
