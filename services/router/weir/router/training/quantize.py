"""Ways to store and multiply the encoder's matrices in eight bits."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
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
Scheme = Callable[[Path, Path, Path, Samples], None]
_BLOCK = 128
# Compute with int8 activations, scaled by block of the row.
_INT8_ACTIVATIONS = 4


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, samples: Samples) -> None:
        self._feeds: Iterator[dict[str, npt.NDArray[np.int64]]] = (
            {"input_ids": ids[None]} for ids in samples
        )

    def get_next(self) -> dict[str, npt.NDArray[np.int64]] | None:
        return next(self._feeds, None)


def _dynamic(source: Path, target: Path, *, exclude: tuple[str, ...] = (), **options: bool) -> None:
    skipped = [
        n.name for n in onnx.load(source).graph.node if n.op_type == "MatMul" and n.name.endswith(exclude)
    ]
    quantize_dynamic(
        source,
        target,
        weight_type=QuantType.QInt8,
        op_types_to_quantize=["MatMul"],
        nodes_to_exclude=skipped if exclude else [],
        **options,
    )


def _blockwise(source: Path, target: Path) -> None:
    quantizer = MatMulNBitsQuantizer(
        onnx.load(source), bits=8, block_size=_BLOCK, is_symmetric=True, accuracy_level=_INT8_ACTIVATIONS
    )
    quantizer.process()
    quantizer.model.save_model_to_file(str(target))


def _tensor(exact: Path, folded: Path, target: Path, samples: Samples) -> None:
    del folded, samples
    kinds = ["MatMul", "Gather"]
    quantize_dynamic(
        exact, target, per_channel=False, weight_type=QuantType.QInt8, op_types_to_quantize=kinds
    )


def _channel(exact: Path, folded: Path, target: Path, samples: Samples) -> None:
    del exact, samples
    _dynamic(folded, target, per_channel=True)


def _channel_reduced(exact: Path, folded: Path, target: Path, samples: Samples) -> None:
    del exact, samples
    _dynamic(folded, target, per_channel=True, reduce_range=True)


def _mixed(exact: Path, folded: Path, target: Path, samples: Samples) -> None:
    del exact, samples
    partly = target.with_suffix(".partly.onnx")
    _dynamic(folded, partly, exclude=("_output_dense",), per_channel=True)
    _blockwise(partly, target)
    partly.unlink()


def _block(exact: Path, folded: Path, target: Path, samples: Samples) -> None:
    del exact, samples
    _blockwise(folded, target)


def _static(exact: Path, folded: Path, target: Path, samples: Samples) -> None:
    del exact
    quantize_static(
        folded,
        target,
        _Reader(samples),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        op_types_to_quantize=["MatMul"],
    )


def _exact(exact: Path, folded: Path, target: Path, samples: Samples) -> None:
    del folded, samples
    target.write_bytes(exact.read_bytes())


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
CHOSEN = "int8-channel"


def export_encoder(source: Path, target: Path, scheme: str, samples: Samples) -> None:
    """Write the encoder of folder ``source`` to the ONNX file ``target``.

    Args:
        source: holds config.json and model.safetensors.
        target: the file to write.
        scheme: a key of ``SCHEMES``.
        samples: wordpiece ids of training prompts; only ``int8-static`` reads them.
    """
    logging.getLogger().setLevel(logging.ERROR)
    exact, folded = target.with_suffix(".exact.onnx"), target.with_suffix(".folded.onnx")
    onnx.save(bert_graph.build(source, int8_embeddings=False), exact)
    onnx.save(bert_graph.build(source, int8_embeddings=True), folded)
    try:
        SCHEMES[scheme](exact, folded, target, samples)
    finally:
        exact.unlink()
        folded.unlink()
