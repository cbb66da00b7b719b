"""ONNX Runtime's execution providers: chosen by the configuration's names, and left out where missing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import onnxruntime as ort
import structlog

log = structlog.get_logger(__name__)

Name = Literal["tensorrt", "cuda", "cpu"]
Provider = str | tuple[str, dict[str, str]]
CPU: tuple[Provider, ...] = ("CPUExecutionProvider",)
_NAMES: dict[Name, str] = {
    "tensorrt": "TensorrtExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "cpu": "CPUExecutionProvider",
}
# TensorRT compiles an engine for a range of shapes; outside of it, it would compile again in mid-traffic.
_LEAST, _USUAL, _MOST = "1x1", "8x128", "16x512"
_INPUTS = ("input_ids", "attention_mask")
# The fused operator takes five times as long on a CPU as the four that it replaces.
_UNDONE = ["SkipLayerNormFusion"]


def _shapes(size: str) -> str:
    return ",".join(f"{name}:{size}" for name in _INPUTS)


_OPTIONS: dict[Name, dict[str, str]] = {
    "tensorrt": {
        "trt_fp16_enable": "1",
        "trt_engine_cache_enable": "1",
        "trt_timing_cache_enable": "1",
        "trt_profile_min_shapes": _shapes(_LEAST),
        "trt_profile_opt_shapes": _shapes(_USUAL),
        "trt_profile_max_shapes": _shapes(_MOST),
    },
    # Grow by what is asked for, not by doubling: the language models want that memory.
    "cuda": {"arena_extend_strategy": "kSameAsRequested"},
    "cpu": {},
}


def available(names: Sequence[Name], engine_cache: Path | None = None) -> tuple[Provider, ...]:
    """Return those of ``names`` that this ONNX Runtime was built with, in that order, and the CPU's last.

    A provider that is not there is logged as a warning; the next one is used.

    Args:
        names: as in ``routing.runtime.execution_providers``.
        engine_cache: where TensorRT keeps compiled engines; the working folder where ``None``.
    """
    built = ort.get_available_providers()
    found: list[Provider] = []
    for name in names:
        provider = _NAMES[name]
        if provider not in built:
            log.warning("execution_provider_missing", wanted=name, built_with=built)
        elif name != "cpu":
            kept = engine_cache if name == "tensorrt" else None
            found.append((provider, _OPTIONS[name] | ({"trt_engine_cache_path": str(kept)} if kept else {})))
    return (*found, *CPU)


def opened(path: Path, options: ort.SessionOptions, wanted: Sequence[Provider]) -> ort.InferenceSession:
    """Open a model; warn where ONNX Runtime passed over the provider wanted first (a missing driver, say)."""
    session = ort.InferenceSession(path, options, providers=list(wanted), disabled_optimizers=_UNDONE)
    first = wanted[0] if isinstance(wanted[0], str) else wanted[0][0]
    if (used := session.get_providers()[0]) != first:
        log.warning("execution_provider_unusable", wanted=first, used=used)
    return session
