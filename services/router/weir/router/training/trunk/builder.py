"""An ONNX graph as it is put together: nodes, constants, and the model that they make."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 18


class Builder:
    """Adds nodes and returns the names of their outputs, which are the nodes' names too."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}

    def constant(self, name: str, value: npt.NDArray[Any]) -> str:
        """Keep a constant under ``name``."""
        self._constants[name] = numpy_helper.from_array(np.asarray(value, order="C"), name)
        return name

    def integers(self, *values: int) -> str:
        """Keep an int64 vector, once for equal values."""
        name = "integers_" + "_".join(map(str, values))
        return name if name in self._constants else self.constant(name, np.array(values, np.int64))

    def number(self, value: float) -> str:
        """Keep a float32 scalar, once for equal values."""
        name = f"number_{value!r}"
        return name if name in self._constants else self.constant(name, np.array(value, np.float32))

    def add(self, op: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Add a node with one output."""
        self._nodes.append(helper.make_node(op, list(inputs), [output], name=output, **attributes))
        return output

    def split(self, source: str, sizes: Sequence[int], outputs: Sequence[str]) -> None:
        """Part the last axis."""
        inputs = [source, self.integers(*sizes)]
        self._nodes.append(helper.make_node("Split", inputs, list(outputs), name=outputs[0], axis=-1))

    def reshape(self, source: str, shape: Sequence[int], output: str) -> str:
        """Reshape; 0 keeps a dimension."""
        return self.add("Reshape", [source, self.integers(*shape)], output)

    def model(self, output: str, width: int) -> onnx.ModelProto:
        """Return the model: ``input_ids``, ``attention_mask`` [b, n] to ``output``, float32 [b, width]."""
        made = helper.make_graph(
            self._nodes,
            "trunk",
            [
                helper.make_tensor_value_info(name, TensorProto.INT64, ["b", "n"])
                for name in ("input_ids", "attention_mask")
            ],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["b", width])],
            initializer=list(self._constants.values()),
        )
        opsets = [helper.make_opsetid("", OPSET)]
        return helper.make_model(made, opset_imports=opsets, ir_version=9, producer_name="weir")
