"""A float32 trunk in fewer bits: matrices by blocks and tables by rows, or everything in 16 bits."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from weir.router.training.trunk.plan import Precision

DATA = "model.onnx.data"
# Protocol buffers end at 2 GB; somewhat below, as the graph itself takes room too.
EXTERNAL_BYTES = 1_800_000_000
_BITS = {"int8": 8, "int4": 4}
_BLOCK = {"int8": 128, "int4": 32}
# MatMulNBits multiplies activations quantized to int8 by block: what a CPU's integer units are for.
_INT8_ACTIVATIONS = 4
# A table with fewer entries saves too little.
_TABLE_ENTRIES = 1 << 16


def convert(model: onnx.ModelProto, precision: Precision) -> onnx.ModelProto:
    """Return the trunk in another precision; ``model`` is used up.

    "int8" and "int4" keep the weights of matrix products in blocks with a scale each (ONNX Runtime's
    ``MatMulNBits``) and embedding tables as int8 with a scale for each row; "fp16" keeps and computes
    everything in 16 bits, for GPUs. Inputs and outputs stay as they are.
    """
    if precision in _BITS:
        return _blockwise(_rows_as_int8(model), _BITS[precision], _BLOCK[precision])
    if precision == "fp16":
        return _halved(model)
    return model


def save(model: onnx.ModelProto, target: Path) -> list[str]:
    """Write the model, with ``model.onnx.data`` where one file cannot hold it; return the files' names."""
    size = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    if size < EXTERNAL_BYTES:
        target.write_bytes(model.SerializeToString(deterministic=True))
        return [target.name]
    (target.parent / DATA).unlink(missing_ok=True)
    onnx.save_model(model, target, save_as_external_data=True, location=DATA, size_threshold=1024)
    return [target.name, DATA]


def is_float32(model: onnx.ModelProto) -> bool:
    """Whether a trunk's weights are all there, as an export to another precision needs them."""
    kinds = {node.op_type for node in model.graph.node}
    weights = [tensor for tensor in model.graph.initializer if len(tensor.dims) > 1]
    return "MatMulNBits" not in kinds and all(t.data_type == TensorProto.FLOAT for t in weights)


def _blockwise(model: onnx.ModelProto, bits: int, block: int) -> onnx.ModelProto:
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    quantizer = MatMulNBitsQuantizer(
        model, bits=bits, block_size=block, is_symmetric=True, accuracy_level=_INT8_ACTIVATIONS
    )
    with _quiet():
        quantizer.process()
    made: onnx.ModelProto = quantizer.model.model
    return made


def _halved(model: onnx.ModelProto) -> onnx.ModelProto:
    from onnxruntime.transformers.float16 import convert_float_to_float16

    made: onnx.ModelProto = convert_float_to_float16(model, keep_io_types=True, disable_shape_infer=True)
    return made


def _rows_as_int8(model: onnx.ModelProto) -> onnx.ModelProto:
    """Replace each look-up in a float32 table by one in int8 and one of the rows' scales."""
    tables = {
        tensor.name: tensor
        for tensor in model.graph.initializer
        if tensor.data_type == TensorProto.FLOAT
        and len(tensor.dims) == 2
        and int(np.prod(tensor.dims)) >= _TABLE_ENTRIES
    }
    nodes: list[onnx.NodeProto] = []
    replaced: set[str] = set()
    for node in model.graph.node:
        if node.op_type == "Gather" and node.input[0] in tables:
            replaced.add(node.input[0])
            nodes += _gathered_by_row(node)
        else:
            nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    still_read = {name for node in nodes for name in node.input}
    for name in sorted(replaced):
        weights = numpy_helper.to_array(tables[name])
        scale = np.maximum(np.abs(weights).max(axis=1, keepdims=True), 1e-12) / 127
        stored = np.rint(weights / scale).astype(np.int8)
        if name not in still_read:
            model.graph.initializer.remove(tables[name])
        model.graph.initializer.append(numpy_helper.from_array(stored, f"{name}_int8"))
        model.graph.initializer.append(numpy_helper.from_array(scale.astype(np.float32), f"{name}_scale"))
    return model


def _gathered_by_row(node: onnx.NodeProto) -> list[onnx.NodeProto]:
    table, places, out = node.input[0], node.input[1], node.output[0]
    rows, floats, scales = f"{out}_rows", f"{out}_floats", f"{out}_scales"
    return [
        helper.make_node("Gather", [f"{table}_int8", places], [rows], name=rows),
        helper.make_node("Cast", [rows], [floats], name=floats, to=TensorProto.FLOAT),
        helper.make_node("Gather", [f"{table}_scale", places], [scales], name=scales),
        helper.make_node("Mul", [floats, scales], [out], name=out),
    ]


@contextmanager
def _quiet() -> Iterator[None]:
    # The quantizer reports each tensor that it leaves alone.
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
