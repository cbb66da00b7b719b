"""Ways to store and multiply the encoder's matrices in eight bits."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

from weir.router.training import bert_graph

Samples = Iterable[npt.NDArray[np.int64]]
_BLOCK = 128
# Compute with int8 activations, scaled by block of the row.
_INT8_ACTIVATIONS = 4


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, samples: Samples) -> None:
        self._feeds: Iterator[dict[str, npt.NDArray[np.int64]]] = (
            {"input_ids": ids[None], "attention_mask": np.ones_like(ids[None])} for ids in samples
        )

    def get_next(self) -> dict[str, npt.NDArray[np.int64]] | None:
        return next(self._feeds, None)


@dataclass(frozen=True)
class _Job:
    """The encoder with exact and with int8 embeddings, where to write, and prompts to calibrate on."""

    exact: Path
    folded: Path
    target: Path
    samples: Samples


Scheme = Callable[[_Job], None]


def _dynamic(source: Path, target: Path, *, exclude: tuple[str, ...] = (), **options: bool) -> None:
    products = [node.name for node in onnx.load(source).graph.node if node.op_type == "MatMul"]
    quantize_dynamic(
        source,
        target,
        weight_type=QuantType.QInt8,
        op_types_to_quantize=["MatMul"],
        nodes_to_exclude=[name for name in products if name.endswith(exclude)] if exclude else [],
        **options,
    )


def _blockwise(source: Path, target: Path) -> None:
    quantizer = MatMulNBitsQuantizer(
        onnx.load(source), bits=8, block_size=_BLOCK, is_symmetric=True, accuracy_level=_INT8_ACTIVATIONS
    )
    quantizer.process()
    quantizer.model.save_model_to_file(str(target))


def _exact(job: _Job) -> None:
    job.target.write_bytes(job.exact.read_bytes())


def _tensor(job: _Job) -> None:
    kinds = ["MatMul", "Gather"]
    quantize_dynamic(job.exact, job.target, weight_type=QuantType.QInt8, op_types_to_quantize=kinds)


def _channel(job: _Job) -> None:
    _dynamic(job.folded, job.target, per_channel=True)


def _channel_reduced(job: _Job) -> None:
    _dynamic(job.folded, job.target, per_channel=True, reduce_range=True)


def _mixed(job: _Job) -> None:
    partly = job.target.with_suffix(".partly.onnx")
    _dynamic(job.folded, partly, exclude=("_output_dense",), per_channel=True)
    _blockwise(partly, job.target)
    partly.unlink()


def _block(job: _Job) -> None:
    _blockwise(job.folded, job.target)


def _static(job: _Job) -> None:
    quantize_static(
        job.folded,
        job.target,
        _Reader(job.samples),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        op_types_to_quantize=["MatMul"],
    )


# int8-mixed: per channel with dynamic activations, but the second feed-forward matrix, whose inputs have the
# outliers, by blocks of 128.
SCHEMES: dict[str, Scheme] = {
    "fp32": _exact,
    "int8-tensor": _tensor,
    "int8-channel": _channel,
    "int8-channel-reduced": _channel_reduced,
    "int8-mixed": _mixed,
    "int8-block": _block,
    "int8-static": _static,
}
# Seven-bit weights: on CPUs without VNNI the sums of eight-bit products saturate.
CHOSEN = "int8-channel-reduced"


def export_encoder(
    source: Path, target: Path, scheme: str, samples: Samples, layers: int | None = None
) -> None:
    """Write the encoder of folder ``source`` to the ONNX file ``target``.

    Args:
        source: holds config.json and model.safetensors.
        target: the file to write.
        scheme: a key of ``SCHEMES``.
        samples: wordpiece ids of training prompts; only ``int8-static`` reads them.
        layers: the first ones are kept; all where ``None``.
    """
    exact, folded = target.with_suffix(".exact.onnx"), target.with_suffix(".folded.onnx")
    onnx.save(bert_graph.build(source, int8_embeddings=False, layers=layers), exact)
    onnx.save(bert_graph.build(source, int8_embeddings=True, layers=layers), folded)
    try:
        with _quiet():
            SCHEMES[scheme](_Job(exact, folded, target, samples))
    finally:
        exact.unlink()
        folded.unlink()


@contextmanager
def _quiet() -> Iterator[None]:
    # The quantizer reports each tensor that it leaves alone to the root logger.
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
