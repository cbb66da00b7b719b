"""Loads a model with TensorRT-LLM in the engine process and answers the warm-up inference."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from weir.common.config.model import LocalModel
from weir.common.errors import WeirError
from weir.engines.base import Capability
from weir.engines.core.backend import RequestFailed, Wake
from weir.engines.core.messages import Ready
from weir.engines.tensorrt_llm.api import load_api
from weir.engines.tensorrt_llm.backend import TensorrtBackend
from weir.engines.tensorrt_llm.checkpoint import read_checkpoint
from weir.engines.tensorrt_llm.launch import check_algorithm, llm_arguments, lora_requests, validate
from weir.engines.tensorrt_llm.options import Options
from weir.engines.tensorrt_llm.quantization import accepted, algorithm_of
from weir.engines.tensorrt_llm.runner import LoopThread

# Speculation inside the engine changes what is returned along a prompt, so scoring is left to plain engines.
_SCORING = frozenset({Capability.SCORE, Capability.SESSION, Capability.DRAFT})


def create(options: Mapping[str, Any], wake: Wake) -> TensorrtBackend:
    """Load the model that ``options`` (an ``Options`` as plain data) describes.

    Raises:
        RequestFailed: MODEL_UNAVAILABLE, with what to correct.
    """
    try:
        return _create(msgspec.convert(options, Options), wake)
    except (ImportError, OSError) as error:
        raise RequestFailed(
            "MODEL_UNAVAILABLE",
            "TensorRT-LLM cannot be imported: install release 1.2 or newer with the CUDA libraries it needs.",
            internal=str(error),
        ) from error
    except WeirError as error:
        raise RequestFailed(error.code, error.hint, internal=error.internal, fields=error.fields) from error


def _create(options: Options, wake: Wake) -> TensorrtBackend:
    run = LocalModel.model_validate(options.run)
    validate(run)
    checkpoint = read_checkpoint(Path(options.model))
    quantization = accepted(options.quantization or None, checkpoint.quantization)
    api = load_api()
    check_algorithm(api, algorithm_of(checkpoint.quantization))
    adapters = lora_requests(api, run)
    # A scored sequence is followed by one generated token.
    length = min(options.max_context + 1, checkpoint.context or options.max_context + 1)
    llm = _load(api.llm, llm_arguments(api, checkpoint, run, length))
    backend = TensorrtBackend(
        api,
        llm,
        Ready(length - 1, sorted(capabilities(run)), quantization, list(adapters)),
        defaults=checkpoint.sampling_defaults(),
        stop_ids=options.stop_ids,
        adapters=adapters,
        parallel=run.max_running,
        speculated=0 if run.speculative == "none" else run.speculative_tokens,
        thread=LoopThread(),
        wake=wake,
    )
    backend.warm_up(options.warm_up)
    return backend


def capabilities(run: LocalModel) -> frozenset[Capability]:
    """What the engine can do with these run settings."""
    found = set(Capability) - {Capability.LORA, Capability.SPECULATIVE}
    if run.adapters:
        found.add(Capability.LORA)
    if run.speculative != "none":
        found = found - _SCORING | {Capability.SPECULATIVE}
    return frozenset(found)


def _load(llm: Any, arguments: dict[str, Any]) -> Any:
    try:
        return llm(**arguments)
    except (ValueError, OSError, RuntimeError) as error:
        raise RequestFailed(
            "MODEL_UNAVAILABLE",
            "TensorRT-LLM cannot load the checkpoint as configured; the service's log says why.",
            internal=str(error),
        ) from error
