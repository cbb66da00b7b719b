"""A Llama-type GGUF file's weights, dequantized and under the names that Hugging Face gives them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np

from weir.engines.text.gguf_metadata import Metadata, read_metadata
from weir.models.llama_folder import Array, LlamaModel, Weights

_OUTER = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def read_gguf(path: Path) -> LlamaModel:
    """Read a GGUF file of the architecture "llama" into float32 weights.

    GGUF keeps the rows of the query and key matrices in the order that llama.cpp rotates them in, pairs
    side by side; Hugging Face rotates halves, so they are put back (llama.cpp, convert_hf_to_gguf.py,
    ``permute``).

    Raises:
        ValueError: not a GGUF file, a damaged one, or a model that these names cannot hold.
    """
    metadata = read_metadata(path)
    if (kind := metadata.get("general.architecture")) != "llama":
        raise ValueError(f"{path.name} holds a model of the architecture {kind!r}; only 'llama' is known")
    config = llama_config(metadata)
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    weights: Weights = {}
    for tensor in gguf.GGUFReader(path).tensors:
        part = part_of(tensor.name)
        name = _named(tensor.name, part)
        weight = _dequantized(tensor)
        weights[name] = _halves(weight, heads[part]) if part in heads else weight
    config["tie_word_embeddings"] = "lm_head.weight" not in weights
    config["vocab_size"] = len(weights["model.embed_tokens.weight"])
    return LlamaModel(config, weights)


def llama_config(metadata: Metadata) -> dict[str, Any]:
    """Return a Llama-type model's config.json from GGUF metadata. Raises ValueError where it lacks a fact."""

    def fact(name: str, default: Any = None) -> Any:
        value = metadata.get(f"llama.{name}", default)
        if value is None:
            raise ValueError(f"the GGUF file lacks llama.{name}")
        return value

    heads, hidden = fact("attention.head_count"), fact("embedding_length")
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "hidden_size": hidden,
        "intermediate_size": fact("feed_forward_length"),
        "num_hidden_layers": fact("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": fact("attention.head_count_kv", heads),
        "head_dim": fact("attention.key_length", hidden // heads),
        "max_position_embeddings": fact("context_length"),
        "rms_norm_eps": fact("attention.layer_norm_rms_epsilon"),
        "rope_theta": fact("rope.freq_base", 10_000.0),
        "bos_token_id": metadata.get("tokenizer.ggml.bos_token_id"),
        "eos_token_id": metadata.get("tokenizer.ggml.eos_token_id"),
        "torch_dtype": "float32",
    }


def part_of(name: str) -> str:
    """Return which part of a Llama-type model a tensor is, by GGUF's name: "attn_q", "token_embd", ...

    Raises:
        ValueError: none that a plain Llama model has.
    """
    if name in _OUTER:
        return name.removesuffix(".weight")
    part, _, kind = name.partition(".")[2].partition(".")[2].partition(".")
    if not name.startswith("blk.") or part not in _LAYER or kind != "weight":
        raise ValueError(f"the file holds the tensor {name}, which a plain Llama model does not have")
    return part


def _named(name: str, part: str) -> str:
    """Return Hugging Face's name of a tensor."""
    return _OUTER.get(name) or f"model.layers.{name.split('.')[1]}.{_LAYER[part]}.weight"


def _dequantized(tensor: gguf.ReaderTensor) -> Array:
    shape = tuple(int(size) for size in reversed(tensor.shape))
    return np.asarray(gguf.dequantize(tensor.data, tensor.tensor_type), np.float32).reshape(shape)


def _halves(weight: Array, heads: int) -> Array:
    rows, width = weight.shape
    pairs = weight.reshape(heads, rows // heads // 2, 2, width)
    return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(rows, width)
