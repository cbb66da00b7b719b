"""A stand-in of a larger model as a GGUF file: a small one made wider, noisy, or both.

It has the small model's tokenizer and answers about as it does; it says of itself that it is a stand-in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Kind
from gguf import GGUFValueType as Type

from weir.engines.text.gguf_metadata import STAND_IN_KEY, Metadata, read_metadata
from weir.models.gguf_blocks import Blocks, noisy, read_blocks, widened
from weir.models.gguf_weights import llama_config, part_of
from weir.models.widening import Width, require_wider

_EPSILON = "llama.attention.layer_norm_rms_epsilon"
# Of the first file alone, or written anew.
_LEFT_OUT = frozenset(
    {"general.architecture", "general.name", "general.size_label", "general.alignment", STAND_IN_KEY}
)


@dataclass(frozen=True, slots=True)
class Noise:
    """Each block of weights is multiplied by 1 + ``level`` · N(0, 1); embeddings and norms stay as they are.

    It is drawn for the blocks of the first file, in its order, so that it does the same to a model and to
    the one made wider from it.
    """

    level: float = 0.0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class _Plan:
    start: Width
    to: Width
    head: int
    noise: Noise

    @property
    def shrink(self) -> float:
        """Square of the factor by which a root mean square over the wider hidden state is smaller."""
        return self.start.hidden / self.to.hidden


def write_stand_in(source: Path, out: Path, width: Width | None = None, noise: Noise = Noise()) -> int:
    """Write ``source``, a GGUF file, to ``out`` at another width, with noise on its weights, or with both.

    The blocks are moved and scaled as they are: without noise, the weights that come out are the very ones
    that go in, with zeros between. Blocking; holds one matrix in memory.

    Args:
        width: the model's own where unset.

    Returns:
        The number of parameters.

    Raises:
        ValueError: not a plain Llama-type model in GGUF, one in blocks that cannot be handled so, a width
            that does not hold it, or ``out`` is ``source``.
    """
    if out.exists() and out.samefile(source):
        raise ValueError("the file to write is the one to read")
    metadata = read_metadata(source)
    if (kind := metadata.get("general.architecture")) != "llama":
        raise ValueError(f"{source.name} holds a model of the architecture {kind!r}; only 'llama' is known")
    config = llama_config(metadata)
    start = Width.of(config)
    plan = _Plan(start, width or start, config["head_dim"], noise)
    require_wider(plan.start, plan.to)
    reader = gguf.GGUFReader(source)
    out.parent.mkdir(parents=True, exist_ok=True)
    unfinished = out.with_name(f"{out.name}.part")
    try:
        count = _write(reader, unfinished, _metadata(reader, metadata, plan), plan)
        unfinished.replace(out)
    finally:
        unfinished.unlink(missing_ok=True)
    return count


def _write(reader: gguf.GGUFReader, out: Path, metadata: Mapping[str, _Value], plan: _Plan) -> int:
    writer = gguf.GGUFWriter(out, "llama")
    for key, value in metadata.items():
        writer.add_key_value(key, value.value, value.type, value.item)
    count = 0
    # Twice over the same tensors: their sizes stand before all of them in the file.
    for name, blocks in _tensors(reader, plan):
        rows, across, size = blocks.data.shape
        shape = (across,) if rows == 1 else (rows, across * size)
        count += rows * across * blocks.block
        dtype = np.dtype(np.float32) if rows == 1 else np.dtype(np.uint8)
        writer.add_tensor_info(name, shape, dtype, blocks.data.nbytes, blocks.kind)
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for _, blocks in _tensors(reader, plan):
            writer.write_tensor_data(np.ascontiguousarray(blocks.data))
    finally:
        writer.close()
    return count


def _tensors(reader: gguf.GGUFReader, plan: _Plan) -> Iterator[tuple[str, Blocks]]:
    generator = np.random.default_rng(plan.noise.seed)
    for tensor in reader.tensors:
        part = part_of(tensor.name)
        if len(tensor.shape) == 1:
            yield tensor.name, _norm(tensor, plan)
            continue
        blocks = read_blocks(tensor)
        if plan.noise.level and part not in {"token_embd", "output"}:
            blocks = noisy(blocks, plan.noise.level, generator)
        yield tensor.name, widened(blocks, part, plan.start, plan.to, plan.head)


def _norm(tensor: gguf.ReaderTensor, plan: _Plan) -> Blocks:
    if tensor.tensor_type is not Kind.F32:
        raise ValueError(f"{tensor.name} is of the type {tensor.tensor_type.name}; norms are expected in F32")
    wide = np.zeros(plan.to.hidden, np.float32)
    wide[: plan.start.hidden] = tensor.data * np.float32(np.sqrt(plan.shrink))
    return Blocks(wide.view(np.uint8).reshape(1, -1, 4), Kind.F32)


@dataclass(frozen=True, slots=True)
class _Value:
    value: Any
    type: Type
    item: Type | None = None


def _metadata(reader: gguf.GGUFReader, known: Metadata, plan: _Plan) -> dict[str, _Value]:
    kept = {
        field.name: _Value(field.contents(), field.types[0], field.types[-1])
        for field in reader.fields.values()
        if not field.name.startswith("GGUF.") and field.name not in _LEFT_OUT
    }
    to, epsilon = plan.to, known[_EPSILON] * plan.shrink
    sizes = {
        "llama.embedding_length": to.hidden,
        "llama.feed_forward_length": to.intermediate,
        "llama.attention.head_count": to.heads,
        "llama.attention.head_count_kv": to.kv_heads,
        "llama.attention.key_length": plan.head,
        "llama.attention.value_length": plan.head,
    }
    name = known.get("general.name") or "a model without a name"
    return (
        kept
        | {key: _Value(size, Type.UINT32) for key, size in sizes.items()}
        | {
            _EPSILON: _Value(epsilon, Type.FLOAT32),
            "general.name": _Value(f"Stand-in made from {name}, no better than that", Type.STRING),
            STAND_IN_KEY: _Value(True, Type.BOOL),
            "weir.noise": _Value(plan.noise.level, Type.FLOAT32),
        }
    )
