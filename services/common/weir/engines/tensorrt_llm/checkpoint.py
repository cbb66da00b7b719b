"""What a Hugging Face checkpoint folder says of itself: architecture, quantization, sampling defaults."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weir.common.errors import ErrorCode, WeirError
from weir.engines.base import Sampling

_ELEMENT_BYTES = 2


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A folder with ``config.json`` and weights, and its parsed descriptions (empty where absent)."""

    path: Path
    config: Mapping[str, Any]
    quantization: Mapping[str, Any]
    generation: Mapping[str, Any]

    @property
    def context(self) -> int:
        """Longest sequence that the model was built for; 0 where unknown."""
        return int(self.config.get("max_position_embeddings") or 0)

    def kv_tokens(self, gigabytes: float, parallel: int) -> int | None:
        """Tokens whose keys and values fit ``gigabytes`` (10^9 bytes) of one GPU at 16 bits.

        ``parallel`` is the number of GPUs that share the heads. ``None`` where the configuration does not
        describe plain attention heads (latent attention, for one).
        """
        try:
            layers = int(self.config["num_hidden_layers"])
            heads = int(self.config["num_attention_heads"])
            kv_heads = int(self.config.get("num_key_value_heads") or heads)
            width = int(self.config.get("head_dim") or self.config["hidden_size"] // heads)
        except KeyError:
            return None
        per_token = 2 * layers * max(1, kv_heads // parallel) * width * _ELEMENT_BYTES
        return int(gigabytes * 1e9) // per_token

    def sampling_defaults(self) -> Sampling:
        """The model's own sampling (``generation_config.json``); greedy where it says not to sample."""
        if not self.generation.get("do_sample", False):
            return Sampling(temperature=0.0)
        return Sampling(
            temperature=self.generation.get("temperature"),
            top_p=self.generation.get("top_p"),
            top_k=self.generation.get("top_k"),
        )


def read_checkpoint(path: Path) -> Checkpoint:
    """Read the descriptions in a checkpoint folder.

    Raises:
        WeirError: MODEL_UNAVAILABLE, where the path holds no Hugging Face checkpoint.
    """
    config = _read(path / "config.json") if path.is_dir() else None
    if config is None:
        raise WeirError(
            ErrorCode.MODEL_UNAVAILABLE,
            "Engine 'tensorrt_llm' loads a Hugging Face checkpoint folder (config.json and safetensors), not "
            "a GGUF or OpenVINO file: set the model's run.path to such a folder.",
            internal=f"no readable config.json in {path}",
        )
    model_opt = _read(path / "hf_quant_config.json") or {}
    quantization = model_opt.get("quantization") or config.get("quantization_config") or {}
    return Checkpoint(path, config, quantization, _read(path / "generation_config.json") or {})


def adapter_rank(path: Path) -> int:
    """Rank of a LoRA adapter folder.

    Raises:
        WeirError: MODEL_UNAVAILABLE, where the folder holds no PEFT adapter.
    """
    config = _read(path / "adapter_config.json")
    if config is None or not isinstance(config.get("r"), int):
        raise WeirError(
            ErrorCode.MODEL_UNAVAILABLE,
            f"The folder '{path.name}' has no adapter_config.json with a rank: give a PEFT LoRA folder.",
        )
    return int(config["r"])


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None
