"""A fine-tuned network as an ONNX graph: built from its weights where the family is known, else traced."""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import warnings
from pathlib import Path

import onnx
import torch
from torch import nn

from weir.models.llama_folder import LlamaModel
from weir.router.training.trunk.llama_graph import FAMILIES, LlamaGraph
from weir.router.training.trunk.network import Network

_OPSET = 18
# Not "embedding", a name that the exporter gives to the words' vectors of some architectures.
_OUTPUT = "pooled_embedding"


def to_onnx(network: Network, positions: int) -> onnx.ModelProto:
    """Return the float32 graph: ids and mask [b, n] in, ``embedding`` [b, d] out.

    Args:
        network: merged, on the CPU.
        positions: the longest prompt, in tokens.

    Raises:
        ValueError: a Llama-type model with parts that are not known.
    """
    config = network.trunk.config
    if config.model_type in FAMILIES:
        weights = {name: value.detach().float().numpy() for name, value in network.trunk.state_dict().items()}
        return LlamaGraph(LlamaModel(config.to_dict(), weights), positions).build(network.pooling)
    return _traced(network)


class _Embedding(nn.Module):  # type: ignore[misc]
    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return self.network.embedding(input_ids, attention_mask)


def _traced(network: Network) -> onnx.ModelProto:
    """Let PyTorch's exporter trace the network, with any batch and any length."""
    ids = torch.arange(3, 27).reshape(2, 12)
    mask = torch.ones_like(ids)
    mask[1, 9:] = 0
    batch, length = torch.export.Dim("b"), torch.export.Dim("n")
    shape = {0: batch, 1: length}
    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        target = Path(scratch) / "model.onnx"
        # The exporter narrates on standard output, and its optimizer in the log.
        logging.getLogger("onnx_ir").setLevel(logging.WARNING)
        logging.getLogger("onnxscript").setLevel(logging.WARNING)
        with contextlib.redirect_stdout(io.StringIO()):
            torch.onnx.export(
                _Embedding(network).eval(),
                (ids, mask),
                target,
                input_names=["input_ids", "attention_mask"],
                output_names=[_OUTPUT],
                dynamic_shapes={"input_ids": shape, "attention_mask": shape},
                opset_version=_OPSET,
                dynamo=True,
                external_data=False,
            )
        return _renamed(onnx.load(target))


def _renamed(model: onnx.ModelProto) -> onnx.ModelProto:
    """Call the output ``embedding``, and what the exporter called so, the words' vectors, something else."""
    names = {"embedding": "word_vectors", _OUTPUT: "embedding"}
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for value in (*model.graph.output, *model.graph.value_info):
        value.name = names.get(value.name, value.name)
    return model
