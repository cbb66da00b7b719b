"""The model of ``tiny_llama`` as a GGUF file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGMLQuantizationType

from tests import tiny_llama
from weir.models.llama_folder import Array, LlamaModel


def write_gguf(
    path: Path,
    made: LlamaModel,
    architecture: str = "llama",
    extra: dict[str, Array] | None = None,
    kind: GGMLQuantizationType = GGMLQuantizationType.F32,
) -> Path:
    """Write a GGUF file as llama.cpp's converter does, query and key rows in pairs, matrices as ``kind``."""
    facts = made.config
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(facts["num_hidden_layers"])
    writer.add_context_length(facts["max_position_embeddings"])
    writer.add_embedding_length(facts["hidden_size"])
    writer.add_feed_forward_length(facts["intermediate_size"])
    writer.add_head_count(facts["num_attention_heads"])
    writer.add_head_count_kv(facts["num_key_value_heads"])
    writer.add_key_length(facts["head_dim"])
    writer.add_layer_norm_rms_eps(facts["rms_norm_eps"])
    writer.add_rope_freq_base(facts["rope_theta"])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    vocabulary = tiny_llama.tokenizer().get_vocab()
    writer.add_token_list([*sorted(vocabulary, key=lambda token: vocabulary[token]), "ab"])
    writer.add_token_merges(["a b"])
    for name, weight in made.weights.items():
        paired = _paired(name, weight, facts)
        if weight.ndim == 1 or kind is GGMLQuantizationType.F32:
            writer.add_tensor(gguf_name(name), paired)
        else:
            writer.add_tensor(gguf_name(name), gguf.quantize(paired, kind), raw_dtype=kind)
    for name, weight in (extra or {}).items():
        writer.add_tensor(name, weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def gguf_name(name: str) -> str:
    """Return GGUF's name of a weight of Hugging Face's."""
    names = {
        "model.embed_tokens.": "token_embd.",
        "model.norm.": "output_norm.",
        "lm_head.": "output.",
        "model.layers.": "blk.",
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
        "self_attn.o_proj": "attn_output",
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
    }
    for theirs, ours in names.items():
        name = name.replace(theirs, ours)
    return name


def _paired(name: str, weight: Array, facts: Mapping[str, Any]) -> Array:
    kinds = {"q_proj": "num_attention_heads", "k_proj": "num_key_value_heads"}
    heads = facts.get(kinds.get(name.split(".")[-2], ""))
    if heads is None:
        return weight
    rows, width = weight.shape
    halves = weight.reshape(heads, 2, rows // heads // 2, width)
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(rows, width)
