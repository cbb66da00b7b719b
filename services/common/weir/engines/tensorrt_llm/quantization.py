"""Quantization: our configuration's names against TensorRT-LLM's algorithms and what a checkpoint holds.

TensorRT-LLM's PyTorch backend runs a checkpoint in the quantization that it was made with, so nothing is
converted here; the configured name is checked and a contradiction is refused instead of ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from weir.common.errors import ErrorCode, WeirError

NO_QUANT = "NO_QUANT"
_SMOOTHQUANT = (
    "W8A8_SQ_PER_CHANNEL",
    "W8A8_SQ_PER_TENSOR_PLUGIN",
    "W8A8_SQ_PER_CHANNEL_PER_TOKEN_PLUGIN",
    "W8A8_SQ_PER_CHANNEL_PER_TENSOR_PLUGIN",
    "W8A8_SQ_PER_TENSOR_PER_TOKEN_PLUGIN",
)
_MXFP4 = ("W4A16_MXFP4", "W4A8_MXFP4_FP8", "W4A8_MXFP4_MXFP8")

# Configured name -> the QuantAlgo members that satisfy it, the usual one first.
ALGORITHMS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "none": (NO_QUANT,),
        "bf16": (NO_QUANT,),
        "fp16": (NO_QUANT,),
        "fp8": ("FP8", "FP8_PER_CHANNEL_PER_TOKEN", "FP8_BLOCK_SCALES"),
        "fp8_block": ("FP8_BLOCK_SCALES",),
        "fp4": ("NVFP4", "W4A8_NVFP4_FP8", *_MXFP4),
        "nvfp4": ("NVFP4", "W4A8_NVFP4_FP8"),
        "mxfp4": _MXFP4,
        "int4_awq": ("W4A16_AWQ", "W4A8_AWQ"),
        "int4_gptq": ("W4A16_GPTQ",),
        "int8": ("W8A16", "W8A16_GPTQ", *_SMOOTHQUANT),
        "int8_sq": _SMOOTHQUANT,
        "w4a16": ("W4A16", "W4A16_AWQ", "W4A16_GPTQ"),
        "w4a16_awq": ("W4A16_AWQ",),
        "w4a8_awq": ("W4A8_AWQ",),
        "w4a16_gptq": ("W4A16_GPTQ",),
        "w8a16": ("W8A16", "W8A16_GPTQ"),
    }
)
# Methods that other tools write into config.json.
_METHODS = MappingProxyType({"awq": "W4A16_AWQ", "gptq": "W4A16_GPTQ", "mxfp4": "W4A16_MXFP4", "fp8": "FP8"})


def algorithm_of(quantization: Mapping[str, Any]) -> str:
    """Name of the QuantAlgo that a checkpoint's quantization section means; NO_QUANT for an empty one.

    Raises:
        WeirError: MODEL_UNAVAILABLE, for a method that TensorRT-LLM lacks.
    """
    if not quantization:
        return NO_QUANT
    if algorithm := quantization.get("quant_algo"):
        return str(algorithm).upper()
    method = str(quantization.get("quant_method", "")).lower()
    if method == "fp8" and quantization.get("weight_block_size"):
        return "FP8_BLOCK_SCALES"
    if method in _METHODS:
        return _METHODS[method]
    raise _refused(f"The checkpoint is quantized with '{method or 'an unnamed method'}'")


def accepted(configured: str | None, quantization: Mapping[str, Any]) -> str:
    """Hold the configured name against the checkpoint.

    Args:
        configured: our name for the wanted quantization; ``None`` takes the checkpoint's.
        quantization: the checkpoint's own section.

    Returns:
        The name that ``EngineInfo.quantization`` shows.

    Raises:
        WeirError: MODEL_UNAVAILABLE, where TensorRT-LLM has no such algorithm or the checkpoint another one.
    """
    wanted = configured.lower() if configured else None
    if wanted is not None and wanted not in ALGORITHMS:
        raise _refused(f"The configured quantization '{configured}' is asked for")
    algorithm = algorithm_of(quantization)
    if wanted is None:
        return _name_of(algorithm)
    if algorithm not in ALGORITHMS[wanted]:
        raise WeirError(
            ErrorCode.MODEL_UNAVAILABLE,
            f"The configuration asks for '{configured}' but the checkpoint holds {algorithm}: give one "
            f"quantized to {ALGORITHMS[wanted][0]}, or configure '{_name_of(algorithm)}'.",
        )
    return wanted


def _name_of(algorithm: str) -> str:
    return next((name for name, names in ALGORITHMS.items() if algorithm in names), algorithm.lower())


def _refused(what: str) -> WeirError:
    return WeirError(
        ErrorCode.MODEL_UNAVAILABLE,
        f"{what}, which TensorRT-LLM has no algorithm for: use a checkpoint in one of "
        f"{', '.join(ALGORITHMS)}, or engine: openvino.",
    )
