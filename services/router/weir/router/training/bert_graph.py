"""A BERT encoder's safetensors as an ONNX graph, without PyTorch.

The graph takes prompts padded on the right, ``input_ids`` and ``attention_mask`` int64 [b, n], and gives
their ``embedding`` float32 [b, hidden]: the mean over the unpadded positions, scaled to length 1
(sentence-transformers' pooling for MiniLM).
Layers: Devlin et al. 2018 (arXiv 1810.04805), post-norm, exact GELU; attention and bias-GELU
are ONNX Runtime's fused operators.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file

Array = npt.NDArray[np.float32]
OPSET = 18
CONTRIB = "com.microsoft"
_NOT_FLOAT = frozenset({"length", "word_rows", "key_mask", "embedding"})


class _Graph:
    """Nodes and initializers as they are added; names are given by the caller."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, value: npt.NDArray[np.generic]) -> str:
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def add(self, op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def fused(self, op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        return self.add(op, inputs, output, domain=CONTRIB, **attributes)


def build(folder: Path, *, int8_embeddings: bool, layers: int | None = None) -> onnx.ModelProto:
    """Build the graph of the model in ``folder`` (config.json, model.safetensors), or of its first layers.

    With ``int8_embeddings`` the word embeddings, half of MiniLM's weights, are stored as int8 with one scale
    for each word; ONNX Runtime's own quantizer has one scale for the whole table.
    """
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    weights = load_file(folder / "model.safetensors")
    graph = _Graph()
    hidden = _embeddings(graph, weights, config["layer_norm_eps"], int8=int8_embeddings)
    graph.add("Cast", ["attention_mask"], "key_mask", to=TensorProto.INT32)
    for index in range(min(layers or config["num_hidden_layers"], config["num_hidden_layers"])):
        hidden = _layer(graph, weights, index, hidden, config)
    _pool(graph, hidden)
    return _model(graph, config["hidden_size"])


def _pool(graph: _Graph, hidden: str) -> None:
    # The norm that follows makes a division by the number of positions needless.
    graph.add("Cast", ["attention_mask"], "weights", to=TensorProto.FLOAT)
    row = graph.add("Unsqueeze", ["weights", graph.constant("middle", np.array([1]))], "weight_row")
    total = graph.add("MatMul", [row, hidden], "pooled_row")
    pooled = graph.add("Squeeze", [total, graph.constant("pooled_axis", np.array([1]))], "pooled")
    graph.add("LpNormalization", [pooled], "embedding", axis=1, p=2)


def _embeddings(graph: _Graph, weights: Mapping[str, Array], epsilon: float, *, int8: bool) -> str:
    words = weights["embeddings.word_embeddings.weight"]
    if int8:
        scale = np.maximum(np.abs(words).max(axis=1, keepdims=True), 1e-12) / 127
        table = graph.constant("words", np.rint(words / scale).astype(np.int8))
        rows = graph.add("Gather", [table, "input_ids"], "word_rows")
        cast = graph.add("Cast", [rows], "word_floats", to=TensorProto.FLOAT)
        scales = graph.constant("word_scale", scale.astype(np.float32))
        taken = graph.add("Gather", [scales, "input_ids"], "word_scales")
        word = graph.add("Mul", [cast, taken], "word")
    else:
        word = graph.add("Gather", [graph.constant("words", words), "input_ids"], "word")
    # One segment only, so its vector is folded into the positions.
    positions = (
        weights["embeddings.position_embeddings.weight"]
        + weights["embeddings.token_type_embeddings.weight"][:1]
    )
    table = graph.constant("positions", positions)
    shape = graph.add("Shape", ["input_ids"], "length", start=1, end=2)
    start, axis = graph.constant("zero", np.array([0])), graph.constant("rows", np.array([0]))
    place = graph.add("Slice", [table, start, shape, axis], "place")
    total = graph.add("Add", [word, place], "embedded")
    gamma = graph.constant("embedding_gamma", weights["embeddings.LayerNorm.weight"])
    beta = graph.constant("embedding_beta", weights["embeddings.LayerNorm.bias"])
    return graph.add("LayerNormalization", [total, gamma, beta], "hidden", axis=-1, epsilon=epsilon)


def _layer(
    graph: _Graph, weights: Mapping[str, Array], index: int, hidden: str, config: Mapping[str, int]
) -> str:
    name, prefix = f"layer{index}", f"encoder.layer.{index}."
    attended = _attention(graph, weights, index, hidden, config["num_attention_heads"])
    middle = _skip_norm(
        graph, weights, f"{prefix}attention.output.", f"{name}_attention", attended, hidden, config
    )
    wide = graph.add(
        "MatMul", [middle, _matrix(graph, weights, prefix + "intermediate.dense")], f"{name}_wide"
    )
    bias = graph.constant(f"{name}_wide_bias", weights[prefix + "intermediate.dense.bias"])
    active = graph.fused("BiasGelu", [wide, bias], f"{name}_gelu")
    return _skip_norm(graph, weights, f"{prefix}output.", f"{name}_output", active, middle, config)


def _attention(graph: _Graph, weights: Mapping[str, Array], index: int, hidden: str, heads: int) -> str:
    name, prefix = f"layer{index}", f"encoder.layer.{index}.attention.self."
    parts = ("query", "key", "value")
    matrix = np.concatenate([weights[f"{prefix}{part}.weight"].T for part in parts], axis=1)
    bias = np.concatenate([weights[f"{prefix}{part}.bias"] for part in parts])
    joined = graph.add("MatMul", [hidden, graph.constant(f"{name}_qkv_weight", matrix)], f"{name}_qkv")
    outputs = [f"{name}_{part}" for part in parts]
    graph.nodes.append(
        helper.make_node("Split", [joined], outputs, name=f"{name}_split", axis=-1, num_outputs=3)
    )
    inputs = [*outputs, graph.constant(f"{name}_qkv_bias", bias), "key_mask"]
    return graph.fused("MultiHeadAttention", inputs, f"{name}_heads", num_heads=heads)


def _skip_norm(
    graph: _Graph,
    weights: Mapping[str, Array],
    prefix: str,
    name: str,
    source: str,
    skip: str,
    config: Mapping[str, float],
) -> str:
    dense = graph.add("MatMul", [source, _matrix(graph, weights, prefix + "dense")], f"{name}_dense")
    gamma = graph.constant(f"{name}_gamma", weights[prefix + "LayerNorm.weight"])
    beta = graph.constant(f"{name}_beta", weights[prefix + "LayerNorm.bias"])
    bias = graph.constant(f"{name}_bias", weights[prefix + "dense.bias"])
    # Not the fused operator for these four: on a CPU it takes five times as long as they do.
    biased = graph.add("Add", [dense, bias], f"{name}_biased")
    total = graph.add("Add", [biased, skip], f"{name}_total")
    return graph.add(
        "LayerNormalization", [total, gamma, beta], f"{name}_norm", axis=-1, epsilon=config["layer_norm_eps"]
    )


def _matrix(graph: _Graph, weights: Mapping[str, Array], name: str) -> str:
    return graph.constant(f"{name}.matrix", weights[f"{name}.weight"].T)


def _model(graph: _Graph, hidden: int) -> onnx.ModelProto:
    # The quantizer asks for types, which inference cannot find past ONNX Runtime's own operators.
    floats = [
        helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
        for node in graph.nodes
        for output in node.output
        if output not in _NOT_FLOAT
    ]
    made = helper.make_graph(
        graph.nodes,
        "sentence_encoder",
        [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["b", "n"])
            for name in ("input_ids", "attention_mask")
        ],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["b", hidden])],
        initializer=graph.constants,
        value_info=floats,
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIB, 1)]
    return helper.make_model(made, opset_imports=opsets, ir_version=9, producer_name="weir")
