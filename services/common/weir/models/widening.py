"""A Llama-type model made wider with zeros: the same function at the cost of a bigger model.

What comes out is a stand-in of a larger model's compute for measuring speed; it knows nothing more.
Every hidden state keeps its values and gets zeros behind them. A root mean square over more numbers is
smaller by sqrt(h0/h1), so the norms' weights shrink by that and their epsilon by its square. Each attention
head keeps its place within its key-value group; the heads and feed-forward columns that are added compute
zeros.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from weir.models.llama_folder import Array, LlamaModel

_NORMS = ("input_layernorm.weight", "post_attention_layernorm.weight", "model.norm.weight")


@dataclass(frozen=True)
class Width:
    """Sizes of a Llama-type model: of the hidden state, of the feed-forward layer, and numbers of heads."""

    hidden: int
    intermediate: int
    heads: int
    kv_heads: int

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Width:
        """Read the sizes from a config.json."""
        heads = config["num_attention_heads"]
        return cls(
            config["hidden_size"],
            config["intermediate_size"],
            heads,
            config.get("num_key_value_heads") or heads,
        )

    @property
    def group(self) -> int:
        """Query heads to a key-value head."""
        return self.heads // self.kv_heads


def widen(model: LlamaModel, to: Width) -> LlamaModel:
    """Return the model at the width ``to``; its logits stay the same but for rounding.

    Raises:
        ValueError: ``to`` is narrower somewhere, its heads do not part evenly, or the model is of another
            type.
    """
    config = model.config
    if config.get("model_type") not in {"llama", "mistral", "qwen2", "qwen3"}:
        raise ValueError(f"only Llama-type models can be widened, not {config.get('model_type')!r}")
    start = Width.of(config)
    require_wider(start, to)
    head = config.get("head_dim") or start.hidden // start.heads
    # Norms of single heads share the epsilon, but not the width: what they norm is scaled instead.
    normed = {
        name.replace("_norm.", "_proj."): np.float32(np.sqrt(start.hidden / to.hidden))
        for name in model.weights
        if name.endswith(("q_norm.weight", "k_norm.weight"))
    }
    weights = {
        name: _widened(name, np.asarray(weight) * normed.get(name, np.float32(1)), start, to, head)
        for name, weight in model.weights.items()
    }
    changed = {
        "hidden_size": to.hidden,
        "intermediate_size": to.intermediate,
        "num_attention_heads": to.heads,
        "num_key_value_heads": to.kv_heads,
        "head_dim": head,
        "rms_norm_eps": config["rms_norm_eps"] * start.hidden / to.hidden,
    }
    return LlamaModel(dict(config) | changed, weights)


def require_wider(start: Width, to: Width) -> None:
    """Refuse a width that does not hold the model. Raises ValueError."""
    if to.heads % to.kv_heads:
        raise ValueError(f"{to.heads} heads do not part evenly over {to.kv_heads} key-value heads")
    sizes = {
        "hidden": (start.hidden, to.hidden),
        "intermediate": (start.intermediate, to.intermediate),
        "kv-heads": (start.kv_heads, to.kv_heads),
        "heads for each key-value head": (start.group, to.group),
    }
    for name, (old, new) in sizes.items():
        if new < old:
            raise ValueError(f"{name}: {new} is less than the model's {old}; a model can only be widened")


def _widened(name: str, weight: Array, start: Width, to: Width, head: int) -> Array:
    if name.endswith(_NORMS):
        scaled = weight * np.float32(np.sqrt(start.hidden / to.hidden))
        return _padded(scaled, (to.hidden,))
    if name.endswith(("embed_tokens.weight", "lm_head.weight")):
        return _padded(weight, (len(weight), to.hidden))
    part = name.rpartition("self_attn.")[2] if "self_attn." in name else ""
    if part in {"q_norm.weight", "k_norm.weight"}:
        return weight
    if part.startswith("q_proj"):
        return _heads_placed(weight, start, to, head)
    if part.startswith(("k_proj", "v_proj")):
        return _padded(weight, (to.kv_heads * head, to.hidden)[: weight.ndim])
    if part == "o_proj.weight":
        return np.ascontiguousarray(_heads_placed(np.ascontiguousarray(weight.T), start, to, head).T)
    if name.endswith(("gate_proj.weight", "up_proj.weight")):
        return _padded(weight, (to.intermediate, to.hidden))
    if name.endswith("down_proj.weight"):
        return _padded(weight, (to.hidden, to.intermediate))
    raise ValueError(f"{name} has no place in a Llama-type model")


def _padded(weight: Array, shape: tuple[int, ...]) -> Array:
    made = np.zeros(shape, weight.dtype)
    made[tuple(slice(size) for size in weight.shape)] = weight
    return made


def _heads_placed(weight: Array, start: Width, to: Width, head: int) -> Array:
    """Put the rows of each query head, [heads · head(, hidden)], at its place within its group."""
    rest = weight.shape[1:]
    made = np.zeros((to.kv_heads, to.group, head, *((to.hidden,) if rest else ())), weight.dtype)
    grouped = weight.reshape(start.kv_heads, start.group, head, *rest)
    made[tuple(slice(size) for size in grouped.shape)] = grouped
    return made.reshape(to.heads * head, *made.shape[3:])
