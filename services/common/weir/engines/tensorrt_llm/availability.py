"""Whether TensorRT-LLM can run here: its package and an NVIDIA GPU, found out without importing either."""

from __future__ import annotations

import ctypes
import importlib.util

from weir.common.errors import ErrorCode, WeirError


def require_tensorrt_llm() -> None:
    """Check package and GPU in milliseconds, importing neither torch nor tensorrt_llm.

    Raises:
        WeirError: MODEL_UNAVAILABLE, saying what to install or configure instead.
    """
    if importlib.util.find_spec("tensorrt_llm") is None:
        raise WeirError(
            ErrorCode.MODEL_UNAVAILABLE,
            "Engine 'tensorrt_llm' needs the package tensorrt-llm, which is not installed: install "
            "weir[server,gpu] on a Linux machine with an NVIDIA GPU, or set engine: openvino for this model.",
        )
    if gpu_count() == 0:
        raise WeirError(
            ErrorCode.MODEL_UNAVAILABLE,
            "Engine 'tensorrt_llm' needs an NVIDIA GPU and its driver, and none is visible here: run it "
            "where nvidia-smi lists a GPU (in a container, reserve the device), or set engine: openvino.",
        )


def gpu_count() -> int:
    """Count the CUDA devices that the driver shows; 0 where there is no driver."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value
