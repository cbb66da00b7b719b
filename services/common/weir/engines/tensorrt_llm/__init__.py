"""TensorRT-LLM on NVIDIA GPUs. Importing this package imports neither PyTorch nor TensorRT-LLM."""

from weir.engines.tensorrt_llm.factory import create

__all__ = ["create"]
