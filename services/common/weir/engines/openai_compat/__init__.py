"""The engine for any OpenAI-compatible server: trtllm-serve, vLLM, SGLang, llama.cpp, Ollama, Dynamo."""

from weir.engines.openai_compat.engine import OpenAiEngine, create

__all__ = ["OpenAiEngine", "create"]
