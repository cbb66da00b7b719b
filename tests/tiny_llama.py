"""A Llama-type model of a few thousand random weights, and its forward pass written out in NumPy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from weir.models.llama_folder import LlamaModel

Array = npt.NDArray[np.float64]
HIDDEN, INTERMEDIATE, LAYERS, HEADS, KV_HEADS, HEAD, WORDS = 24, 40, 2, 6, 3, 8, 300


def config(**changes: Any) -> dict[str, Any]:
    """Return a config.json; ``head_dim`` is not hidden / heads on purpose."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "hidden_size": HIDDEN,
        "intermediate_size": INTERMEDIATE,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "head_dim": HEAD,
        "max_position_embeddings": 128,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10_000.0,
        "vocab_size": WORDS,
        "tie_word_embeddings": False,
        "pad_token_id": None,
        "bos_token_id": None,
        "eos_token_id": None,
    } | changes


def model(*, biases: bool = False, head_norms: bool = False, **changes: Any) -> LlamaModel:
    """Return random weights, with biases as Qwen2 has them or head norms as Qwen3."""
    generator, facts = np.random.default_rng(0), config(**changes)
    hidden, intermediate, head = (facts[key] for key in ("hidden_size", "intermediate_size", "head_dim"))
    queries, keys = (head * facts[key] for key in ("num_attention_heads", "num_key_value_heads"))
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (WORDS, hidden),
        "model.norm.weight": (hidden,),
        "lm_head.weight": (WORDS, hidden),
    }
    for layer in (f"model.layers.{index}." for index in range(LAYERS)):
        shapes |= {
            f"{layer}input_layernorm.weight": (hidden,),
            f"{layer}post_attention_layernorm.weight": (hidden,),
            f"{layer}self_attn.q_proj.weight": (queries, hidden),
            f"{layer}self_attn.k_proj.weight": (keys, hidden),
            f"{layer}self_attn.v_proj.weight": (keys, hidden),
            f"{layer}self_attn.o_proj.weight": (hidden, queries),
            f"{layer}mlp.gate_proj.weight": (intermediate, hidden),
            f"{layer}mlp.up_proj.weight": (intermediate, hidden),
            f"{layer}mlp.down_proj.weight": (hidden, intermediate),
        }
        if biases:
            sizes = {"q": queries, "k": keys, "v": keys}
            shapes |= {f"{layer}self_attn.{part}_proj.bias": (size,) for part, size in sizes.items()}
        if head_norms:
            shapes |= {f"{layer}self_attn.{part}_norm.weight": (head,) for part in "qk"}
    weights = {
        name: (generator.normal(0, 0.3, shape) + ("norm" in name)).astype(np.float32)
        for name, shape in shapes.items()
    }
    return LlamaModel(facts, weights)


def hidden_states(made: LlamaModel, ids: list[int]) -> Array:
    """Return the normed hidden states [n, hidden] of one prompt."""
    facts, weights = made.config, {name: w.astype(np.float64) for name, w in made.weights.items()}
    heads, kv_heads, head = (facts[k] for k in ("num_attention_heads", "num_key_value_heads", "head_dim"))
    count, epsilon = len(ids), facts["rms_norm_eps"]
    angles = np.arange(count)[:, None] * facts["rope_theta"] ** (-np.arange(0, head, 2) / head)
    cos, sin = (np.concatenate([f(angles)] * 2, axis=1)[:, None] for f in (np.cos, np.sin))

    def norm(x: Array, weight: Array) -> Array:
        scaled: Array = x / np.sqrt((x**2).mean(-1, keepdims=True) + epsilon) * weight
        return scaled

    def rotated(x: Array) -> Array:
        half = head // 2
        turned: Array = x * cos + np.concatenate([-x[..., half:], x[..., :half]], axis=-1) * sin
        return turned

    x = weights["model.embed_tokens.weight"][ids]
    for layer in (f"model.layers.{index}." for index in range(facts["num_hidden_layers"])):
        own = f"{layer}self_attn."
        normed = norm(x, weights[f"{layer}input_layernorm.weight"])
        parts = {}
        for part, number in (("q", heads), ("k", kv_heads), ("v", kv_heads)):
            flat = normed @ weights[f"{own}{part}_proj.weight"].T + weights.get(f"{own}{part}_proj.bias", 0)
            parts[part] = flat.reshape(count, number, head)
            if f"{own}{part}_norm.weight" in weights:
                parts[part] = norm(parts[part], weights[f"{own}{part}_norm.weight"])
        query, key = rotated(parts["q"]), np.repeat(rotated(parts["k"]), heads // kv_heads, axis=1)
        scores = np.einsum("qhd,khd->hqk", query, key) / np.sqrt(head)
        scores = np.where(np.tri(count, dtype=bool), scores, -np.inf)
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        shares /= shares.sum(-1, keepdims=True)
        mixed = np.einsum("hqk,khd->qhd", shares, np.repeat(parts["v"], heads // kv_heads, axis=1))
        x = x + mixed.reshape(count, heads * head) @ weights[f"{own}o_proj.weight"].T
        normed = norm(x, weights[f"{layer}post_attention_layernorm.weight"])
        gate = normed @ weights[f"{layer}mlp.gate_proj.weight"].T
        up = normed @ weights[f"{layer}mlp.up_proj.weight"].T
        x = x + (gate / (1 + np.exp(-gate)) * up) @ weights[f"{layer}mlp.down_proj.weight"].T
    return norm(x, weights["model.norm.weight"])


def logits(made: LlamaModel, ids: list[int]) -> Array:
    """Return the logits [n, words] of one prompt."""
    scores: Array = hidden_states(made, ids) @ made.weights["lm_head.weight"].T.astype(np.float64)
    return scores


def tokenizer() -> Tokenizer:
    """Return a tokenizer with one token for each byte."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE({byte: index for index, byte in enumerate(alphabet)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    return made


def write_folder(folder: Path, made: LlamaModel) -> Path:
    """Write the model as a Hugging Face folder."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(dict(made.config)))
    save_file(made.weights, folder / "model.safetensors", metadata={"format": "pt"})
    tokenizer().save(str(folder / "tokenizer.json"))
    return folder
