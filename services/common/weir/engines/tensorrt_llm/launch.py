"""The arguments of ``LLM``, from a model's run settings."""

from __future__ import annotations

from typing import Any

from weir.common.config.model import LocalModel
from weir.common.errors import ErrorCode, WeirError
from weir.engines.tensorrt_llm.api import Api
from weir.engines.tensorrt_llm.checkpoint import Checkpoint, adapter_rank
from weir.engines.tensorrt_llm.quantization import ALGORITHMS


def validate(run: LocalModel) -> None:
    """Refuse run settings that cannot work, before anything heavy is loaded.

    Raises:
        WeirError: MODEL_UNAVAILABLE, naming the setting to correct.
    """
    if run.speculative_model is not None and not run.speculative_model.is_dir():
        raise WeirError(
            ErrorCode.MODEL_UNAVAILABLE,
            f"run.speculative is '{run.speculative}' but there is no folder at run.speculative_model: give a "
            "Hugging Face checkpoint folder of the draft model, or set speculative to 'ngram' or 'none'.",
        )
    if run.speculative != "none" and run.adapters:
        raise WeirError(
            ErrorCode.MODEL_UNAVAILABLE,
            "TensorRT-LLM does not speculate for LoRA adapters: set run.speculative to 'none', or run the "
            "adapters in a worker of their own.",
        )
    for name, path in run.adapters.items():
        if not path.is_dir():
            raise WeirError(
                ErrorCode.MODEL_UNAVAILABLE,
                f"The adapter '{name}' has no folder at the configured path: correct run.adapters.{name}.",
            )


def llm_arguments(api: Api, checkpoint: Checkpoint, run: LocalModel, length: int) -> dict[str, Any]:
    """Keyword arguments for ``LLM``; ``length`` counts the tokens of prompt and answer together."""
    arguments: dict[str, Any] = {
        "model": str(checkpoint.path),
        "tensor_parallel_size": run.tensor_parallel_size,
        "pipeline_parallel_size": run.pipeline_parallel_size,
        "max_batch_size": run.max_running,
        "max_seq_len": length,
        "enable_chunked_prefill": True,
        "enable_iter_perf_stats": True,
        "guided_decoding_backend": "llguidance",
        "kv_cache_config": _kv_cache(api, checkpoint, run),
    }
    return arguments | _speculation(api, run) | _adapters(api, run)


def check_algorithm(api: Api, algorithm: str) -> None:
    """Refuse a quantization algorithm that the installed release does not know yet.

    Raises:
        WeirError: MODEL_UNAVAILABLE.
    """
    if not hasattr(api.quant_algo, algorithm):
        known = ", ".join(name for name, names in ALGORITHMS.items() if hasattr(api.quant_algo, names[0]))
        raise WeirError(
            ErrorCode.MODEL_UNAVAILABLE,
            f"The checkpoint needs {algorithm}, which the installed TensorRT-LLM lacks: upgrade it, or use "
            f"one of {known}.",
        )


def _kv_cache(api: Api, checkpoint: Checkpoint, run: LocalModel) -> Any:
    arguments: dict[str, Any] = {"enable_block_reuse": True}
    # Unset, TensorRT-LLM takes its share of the free GPU memory, which is right for a card of one's own.
    if "kv_cache_gb" in run.model_fields_set:
        tokens = checkpoint.kv_tokens(run.kv_cache_gb, run.tensor_parallel_size)
        if tokens:
            arguments["max_tokens"] = tokens
    return api.kv_cache_config(**arguments)


def _speculation(api: Api, run: LocalModel) -> dict[str, Any]:
    if run.speculative == "none":
        return {}
    tokens = run.speculative_tokens
    if run.speculative == "eagle3":
        return {
            "speculative_config": api.eagle3(
                max_draft_len=tokens, speculative_model=str(run.speculative_model)
            )
        }
    config = (
        api.ngram(max_draft_len=tokens, max_matching_ngram_size=run.speculative_max_ngram)
        if run.speculative == "ngram"
        else api.draft_target(max_draft_len=tokens, speculative_model=str(run.speculative_model))
    )
    # Drafts that are made outside the target's own pass cannot overlap with it.
    return {"speculative_config": config, "disable_overlap_scheduler": True}


def _adapters(api: Api, run: LocalModel) -> dict[str, Any]:
    if not run.adapters:
        return {}
    folders = [str(path) for path in run.adapters.values()]
    rank = max(adapter_rank(path) for path in run.adapters.values())
    config = api.lora_config(
        lora_dir=folders, max_lora_rank=rank, max_loras=len(folders), max_cpu_loras=len(folders)
    )
    return {"enable_lora": True, "lora_config": config}


def lora_requests(api: Api, run: LocalModel) -> dict[str, Any]:
    """One ``LoRARequest`` for each adapter, by its configured name; ids count from 1."""
    return {
        name: api.lora_request(lora_name=name, lora_int_id=number, lora_path=str(path))
        for number, (name, path) in enumerate(run.adapters.items(), start=1)
    }
