"""Matrices of a GGUF file as the rows of quantized blocks that they are: made wider, or noisy, as such.

A block of the types below is a scale, for some a minimum too, as float16, and then the weights' codes. All
zero bytes stand for zeros, and the scale times f stands for the weights times f: neither needs the weights
themselves, and so nothing is quantized a second time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType as Kind

from weir.models.widening import Width

Bytes = npt.NDArray[np.uint8]
# Numbers at the head of a block that its weights are multiples of. Of plain types each weight is a block.
_SCALES: Mapping[Kind, tuple[type[np.floating[Any]], int]] = MappingProxyType(
    {
        Kind.Q4_0: (np.float16, 1),
        Kind.Q4_1: (np.float16, 2),
        Kind.Q8_0: (np.float16, 1),
        Kind.F16: (np.float16, 1),
        Kind.F32: (np.float32, 1),
    }
)


@dataclass(frozen=True, slots=True)
class Blocks:
    """A matrix: ``data`` has the shape [rows, blocks of a row, bytes of a block]."""

    data: Bytes
    kind: Kind

    @property
    def block(self) -> int:
        """Weights to a block."""
        return int(gguf.GGML_QUANT_SIZES[self.kind][0])


def read_blocks(tensor: gguf.ReaderTensor) -> Blocks:
    """Return a tensor's blocks, as a view into the file.

    Raises:
        ValueError: the tensor is of a type whose blocks are made otherwise.
    """
    if tensor.tensor_type not in _SCALES:
        known = ", ".join(kind.name for kind in _SCALES)
        raise ValueError(f"{tensor.name} is of the type {tensor.tensor_type.name}; known are {known}")
    size = gguf.GGML_QUANT_SIZES[tensor.tensor_type][1]
    data = np.ascontiguousarray(tensor.data).view(np.uint8).reshape(int(tensor.shape[-1]), -1, size)
    return Blocks(data, tensor.tensor_type)


def widened(blocks: Blocks, part: str, start: Width, to: Width, head: int) -> Blocks:
    """Return the matrix with zeros around its weights; each head keeps its place within its group.

    Args:
        blocks: of the width ``start``.
        part: which one it is of a Llama-type model, by GGUF's name.
        head: size of an attention head.

    Raises:
        ValueError: the new width is no multiple of a block.
    """
    before = _layout(part, start, head, blocks)
    after = _layout(part, to, head, blocks)
    size = blocks.data.shape[-1]
    made = np.zeros((*after, size), np.uint8)
    made[tuple(slice(count) for count in before)] = blocks.data.reshape(*before, size)
    rows = math.prod(after[: 3 if part == "attn_q" else 1])
    return Blocks(made.reshape(rows, -1, size), blocks.kind)


def noisy(blocks: Blocks, level: float, generator: np.random.Generator) -> Blocks:
    """Return the matrix with each block times 1 + ``level`` · N(0, 1); with level 0 the same bytes."""
    kind, count = _SCALES[blocks.kind]
    data = blocks.data.copy()
    head = count * np.dtype(kind).itemsize
    factors = 1 + level * generator.standard_normal((*data.shape[:2], 1))
    scales = np.ascontiguousarray(data[..., :head]).view(kind)
    data[..., :head] = (scales * factors).astype(kind).view(np.uint8)
    return Blocks(data, blocks.kind)


def _layout(part: str, width: Width, head: int, blocks: Blocks) -> tuple[int, ...]:
    """Return the shape, in rows and blocks, that shows where heads are."""

    def across(columns: int, what: str) -> int:
        if columns % blocks.block:
            raise ValueError(
                f"{what}: {columns} is no multiple of {blocks.block}, the weights to a block of "
                f"{blocks.kind.name}"
            )
        return columns // blocks.block

    hidden = across(width.hidden, "hidden")
    if part in {"token_embd", "output"}:
        return (blocks.data.shape[0], hidden)
    if part == "attn_q":
        return (width.kv_heads, width.group, head, hidden)
    if part in {"attn_k", "attn_v"}:
        return (width.kv_heads * head, hidden)
    if part == "attn_output":
        return (width.hidden, width.kv_heads, width.group, across(head, "the size of a head"))
    if part == "ffn_down":
        return (width.hidden, across(width.intermediate, "intermediate"))
    return (width.intermediate, hidden)
