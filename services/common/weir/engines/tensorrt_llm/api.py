"""The names of TensorRT-LLM that the engine uses, imported in one place and only where an engine starts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Api:
    """Classes of the installed package."""

    llm: Any
    sampling_params: Any
    guided_decoding_params: Any
    kv_cache_config: Any
    quant_algo: Any
    draft_target: Any
    eagle3: Any
    ngram: Any
    lora_config: Any
    lora_request: Any


def load_api() -> Api:
    """Import the package. It loads PyTorch and CUDA, so the engine process alone calls this."""
    from tensorrt_llm import LLM, SamplingParams
    from tensorrt_llm.executor.request import LoRARequest
    from tensorrt_llm.llmapi import (
        DraftTargetDecodingConfig,
        Eagle3DecodingConfig,
        GuidedDecodingParams,
        KvCacheConfig,
        NGramDecodingConfig,
        QuantAlgo,
    )
    from tensorrt_llm.lora_helper import LoraConfig

    return Api(
        llm=LLM,
        sampling_params=SamplingParams,
        guided_decoding_params=GuidedDecodingParams,
        kv_cache_config=KvCacheConfig,
        quant_algo=QuantAlgo,
        draft_target=DraftTargetDecodingConfig,
        eagle3=Eagle3DecodingConfig,
        ngram=NGramDecodingConfig,
        lora_config=LoraConfig,
        lora_request=LoRARequest,
    )
