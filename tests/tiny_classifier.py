"""A whole artifact in the current format, of a few kilobytes: it calls prompts with many numbers hard."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from weir.router.classifier import artifact
from weir.router.classifier.artifact import ArtifactMetadata, Calibration, DataFacts, ModelFacts
from weir.router.classifier.form import FEATURES

_DIMENSIONS = 2
_FACTS = ModelFacts(
    kind="encoder",
    name="tiny",
    source="a test",
    source_sha256="0" * 64,
    license="Apache-2.0",
    precision="fp32",
    max_tokens=64,
    dimensions=_DIMENSIONS,
    begin=[],
    end=[],
)


def write_tiny_classifier(folder: Path, domains: list[str], slope: float = 1.0) -> ArtifactMetadata:
    """Write the artifact; ``domains`` are those that it says it was trained on."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer(WordLevel({"[UNK]": 0}, unk_token="[UNK]"))  # noqa: S106
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(folder / artifact.TOKENIZER))
    onnx.save(_network(), folder / artifact.MODEL)
    onnx.save(_heads(), folder / artifact.HEADS)
    facts = DataFacts("tiny.jsonl", "0" * 64, 2, "Apache-2.0", "weak", "strong", domains, 0.5, 0.25)
    unsealed = ArtifactMetadata(
        format=artifact.FORMAT,
        revision="",
        created="2026-01-01",
        license="Apache-2.0",
        model=_FACTS,
        data=facts,
        calibration=Calibration(slope, 0.0),
        conformal={},
        domains=["math", "law"],
        files={},
        versions={},
        heads={},
    )
    sealed = artifact.sealed(unsealed, folder)
    artifact.write_metadata(sealed, folder)
    return sealed


def _network() -> onnx.ModelProto:
    """Return a network whose embedding is the constant zero."""
    nodes = [
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["input_ids"], ["ids"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["mask", "ids"], ["both"]),
        helper.make_node("ReduceMean", ["both", "axis"], ["mean"], keepdims=1),
        helper.make_node("MatMul", ["mean", "zeros"], ["embedding"]),
    ]
    constants = [
        numpy_helper.from_array(np.array([1]), "axis"),
        numpy_helper.from_array(np.zeros((1, _DIMENSIONS), np.float32), "zeros"),
    ]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["b", "n"])
        for name in ("input_ids", "attention_mask")
    ]
    outputs = [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["b", _DIMENSIONS])]
    return _model(helper.make_graph(nodes, "network", inputs, outputs, constants))


def _heads() -> onnx.ModelProto:
    """Return heads that read how many numbers a prompt holds."""
    width = _DIMENSIONS + len(FEATURES)
    weights = np.zeros((width, 2), np.float32)
    weights[_DIMENSIONS + FEATURES.index("log_numbers")] = 0.8
    nodes = [
        helper.make_node("Gemm", ["features", "weights", "bias"], ["scores"]),
        helper.make_node("Sigmoid", ["scores"], ["events"]),
        helper.make_node("Softmax", ["scores"], ["domains"], axis=1),
    ]
    constants = [
        numpy_helper.from_array(weights, "weights"),
        numpy_helper.from_array(np.array([-2.0, -2.0], np.float32), "bias"),
    ]
    inputs = [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["b", width])]
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["b", 2]) for name in ("events", "domains")
    ]
    return _model(helper.make_graph(nodes, "heads", inputs, outputs, constants))


def _model(graph: onnx.GraphProto) -> onnx.ModelProto:
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
