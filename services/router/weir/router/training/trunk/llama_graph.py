"""A Llama-type decoder as an ONNX graph that gives a pooled embedding, without PyTorch.

Plain operators only, so that every execution provider can take the whole graph; ONNX Runtime fuses the norms
itself. Rows are padded on the right: no position sees what follows it, so the mask is needed for pooling
alone. Layers: Touvron et al. 2023 (arXiv 2302.13971); grouped key-value heads: Ainslie et al. 2023 (arXiv
2305.13245).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto

from weir.models.llama_folder import LlamaModel
from weir.models.widening import Width
from weir.router.training.trunk.builder import Builder
from weir.router.training.trunk.rotary import rotary_tables

FAMILIES = frozenset({"llama", "mistral", "qwen2", "qwen3"})
Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class _Shape:
    """Sizes and constants that all layers share."""

    width: Width
    head: int
    epsilon: float

    @property
    def queries(self) -> int:
        return self.width.heads * self.head

    @property
    def keys(self) -> int:
        return self.width.kv_heads * self.head


class LlamaGraph:
    """Builds the graph of one model. ``weights`` shrinks as matrices move into the graph."""

    def __init__(self, model: LlamaModel, positions: int) -> None:
        """Check that the model is one that can be built here.

        Args:
            model: weights with or without the prefix ``model.``.
            positions: the longest prompt, in tokens.

        Raises:
            ValueError: another architecture, activation, attention window or rotary scaling.
        """
        config = model.config
        _check(config, positions)
        width = Width.of(config)
        head = config.get("head_dim") or width.hidden // width.heads
        self._shape = _Shape(width, head, config["rms_norm_eps"])
        self._layers: int = config["num_hidden_layers"]
        self._weights = {name.removeprefix("model."): weight for name, weight in model.weights.items()}
        self._graph = Builder()
        cosines, sines = rotary_tables(config, head, positions)
        self._tables = {"cosines": cosines, "sines": sines}

    def build(self, pooling: str) -> onnx.ModelProto:
        """Return the graph; ``pooling`` is "last", "mean" or "cls" (see ``network.Network``)."""
        graph = self._graph
        words = graph.constant("words", self._take("embed_tokens.weight"))
        hidden = graph.add("Gather", [words, "input_ids"], "hidden")
        self._positions()
        for index in range(self._layers):
            hidden = self._layer(f"layers.{index}.", hidden)
        self._pool(self._norm(hidden, "norm.weight", "final"), pooling)
        return graph.model("embedding", self._shape.width.hidden)

    def _take(self, name: str) -> Array:
        return np.asarray(self._weights.pop(name), np.float32)

    def _positions(self) -> None:
        """Add cosines and sines of the present positions [n, 1, 1, head / 2], and the causal mask [n, n]."""
        graph = self._graph
        length = graph.add("Shape", ["input_ids"], "length", start=1, end=2)
        for name, table in self._tables.items():
            kept = graph.constant(f"{name}_table", table[:, None, None])
            inputs = [kept, graph.integers(0), length, graph.integers(0)]
            graph.add("Slice", inputs, name)
        ends = graph.add("Squeeze", [length], "length_scalar")
        zero, one = (graph.constant(f"range_{step}", np.array(step, np.int64)) for step in (0, 1))
        place = graph.add("Range", [zero, ends, one], "place")
        rows = graph.add("Unsqueeze", [place, graph.integers(1)], "place_rows")
        earlier = graph.add("GreaterOrEqual", [rows, place], "earlier")
        graph.add("Where", [earlier, graph.number(0.0), graph.number(-1e4)], "causal")

    def _layer(self, prefix: str, hidden: str) -> str:
        graph, name = self._graph, prefix.replace(".", "_")
        normed = self._norm(hidden, f"{prefix}input_layernorm.weight", f"{name}before")
        attended = graph.add("Add", [hidden, self._attention(prefix, normed)], f"{name}attended")
        normed = self._norm(attended, f"{prefix}post_attention_layernorm.weight", f"{name}between")
        return graph.add("Add", [attended, self._feed_forward(prefix, normed)], f"{name}hidden")

    def _norm(self, source: str, weight: str, name: str) -> str:
        """Root mean square normalization (Zhang and Sennrich 2019, arXiv 1910.07467)."""
        graph = self._graph
        square = graph.add("Pow", [source, graph.number(2.0)], f"{name}_square")
        mean = graph.add("ReduceMean", [square, graph.integers(-1)], f"{name}_mean", keepdims=1)
        raised = graph.add("Add", [mean, graph.number(self._shape.epsilon)], f"{name}_raised")
        root = graph.add("Sqrt", [raised], f"{name}_root")
        scaled = graph.add("Div", [source, root], f"{name}_scaled")
        kept = graph.constant(f"{name}_weight", self._take(weight))
        return graph.add("Mul", [scaled, kept], f"{name}_norm")

    def _product(self, source: str, parts: list[str], name: str) -> str:
        """Multiply by the matrices ``parts`` side by side, in one product; add their biases."""
        graph = self._graph
        matrix = np.concatenate([self._take(f"{part}.weight") for part in parts])
        made = graph.add("MatMul", [source, graph.constant(f"{name}_matrix", matrix.T)], f"{name}_product")
        if f"{parts[0]}.bias" not in self._weights:
            return made
        bias = np.concatenate([self._take(f"{part}.bias") for part in parts])
        return graph.add("Add", [made, graph.constant(f"{name}_bias", bias)], f"{name}_biased")

    def _attention(self, prefix: str, source: str) -> str:
        graph, shape, name = self._graph, self._shape, prefix.replace(".", "_")
        own = f"{prefix}self_attn."
        joined = self._product(source, [f"{own}{part}_proj" for part in "qkv"], f"{name}qkv")
        parts = [f"{name}{part}" for part in "qkv"]
        graph.split(joined, [shape.queries, shape.keys, shape.keys], parts)
        groups = (shape.width.group, 1, 1)
        query, key, value = (
            self._heads(part, group, f"{own}{letter}_norm.weight")
            for part, group, letter in zip(parts, groups, "qkv", strict=True)
        )
        turned = graph.add("Transpose", [key], f"{key}_turned", perm=[0, 2, 3, 4, 1])
        query = graph.add("Transpose", [query], f"{query}_turned", perm=[0, 2, 3, 1, 4])
        value = graph.add("Transpose", [value], f"{value}_turned", perm=[0, 2, 3, 1, 4])
        scaled = graph.add("Mul", [query, graph.number(shape.head**-0.5)], f"{name}scaled")
        scores = graph.add("MatMul", [scaled, turned], f"{name}scores")
        masked = graph.add("Add", [scores, "causal"], f"{name}masked")
        shares = graph.add("Softmax", [masked], f"{name}shares", axis=-1)
        mixed = graph.add("MatMul", [shares, value], f"{name}mixed")
        ordered = graph.add("Transpose", [mixed], f"{name}ordered", perm=[0, 3, 1, 2, 4])
        flat = graph.reshape(ordered, [0, 0, shape.queries], f"{name}flat")
        return self._product(flat, [f"{own}o_proj"], f"{name}output")

    def _heads(self, source: str, group: int, norm: str) -> str:
        """Return heads [b, n, kv heads, group, head]; rotated but for values, normed where the model does."""
        shape = [0, 0, self._shape.width.kv_heads, group, self._shape.head]
        made = self._graph.reshape(source, shape, f"{source}_heads")
        if norm in self._weights:
            made = self._norm(made, norm, f"{source}_own")
        return made if source.endswith("_v") else self._rotated(made)

    def _rotated(self, source: str) -> str:
        graph, half = self._graph, self._shape.head // 2
        first, second = f"{source}_first", f"{source}_second"
        graph.split(source, [half, half], [first, second])

        def turned(straight: str, crossed: str, op: str, name: str) -> str:
            along = graph.add("Mul", [straight, "cosines"], f"{source}_{name}_along")
            across = graph.add("Mul", [crossed, "sines"], f"{source}_{name}_across")
            return graph.add(op, [along, across], f"{source}_{name}")

        parts = [turned(first, second, "Sub", "low"), turned(second, first, "Add", "high")]
        return graph.add("Concat", parts, f"{source}_rotated", axis=-1)

    def _feed_forward(self, prefix: str, source: str) -> str:
        graph, name = self._graph, prefix.replace(".", "_")
        own, size = f"{prefix}mlp.", self._shape.width.intermediate
        joined = self._product(source, [f"{own}gate_proj", f"{own}up_proj"], f"{name}wide")
        gate, up = f"{name}gate", f"{name}up"
        graph.split(joined, [size, size], [gate, up])
        sigmoid = graph.add("Sigmoid", [gate], f"{name}sigmoid")
        active = graph.add("Mul", [graph.add("Mul", [gate, sigmoid], f"{name}swish"), up], f"{name}active")
        return self._product(active, [f"{own}down_proj"], f"{name}down")

    def _pool(self, hidden: str, pooling: str) -> None:
        graph = self._graph
        if pooling == "cls":
            first = graph.constant("first", np.array(0, np.int64))
            graph.add("Gather", [hidden, first], "embedding", axis=1)
            return
        count = graph.add("ReduceSum", ["attention_mask", graph.integers(1)], "count", keepdims=1)
        if pooling == "last":
            last = graph.add("Sub", [count, graph.integers(1)], "last")
            chosen = graph.add("Equal", ["place", last], "chosen")
            shares = graph.add("Cast", [chosen], "shares", to=TensorProto.FLOAT)
        else:
            mask, total = (
                graph.add("Cast", [name], f"{name}_float", to=TensorProto.FLOAT)
                for name in ("attention_mask", count)
            )
            shares = graph.add("Div", [mask, total], "shares")
        row = graph.add("Unsqueeze", [shares, graph.integers(1)], "share_row")
        pooled = graph.add("MatMul", [row, hidden], "pooled_row")
        graph.add("Squeeze", [pooled, graph.integers(1)], "embedding")


def _check(config: Mapping[str, Any], positions: int) -> None:
    kind, window = config.get("model_type"), config.get("sliding_window")
    if kind not in FAMILIES:
        raise ValueError(f"{kind!r} is none of {', '.join(sorted(FAMILIES))}")
    if config.get("hidden_act", "silu") != "silu":
        raise ValueError(f"the activation {config['hidden_act']!r} is not known")
    if window and config.get("use_sliding_window", True) and window < positions:
        raise ValueError(f"an attention window of {window} tokens is shorter than the prompts")
