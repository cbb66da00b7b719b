"""The model as a function from tokens to logits, for many sequences in one pass, over a paged KV cache."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import openvino as ov
from openvino import opset13 as ops
from openvino._offline_transformations import paged_attention_transformation

from weir.engines.core.openvino import kv_pool

Logits = npt.NDArray[np.float32]

# What a token's logits are must not depend on the chunk that it is fed in, nor on who shares the pass, else
# verification is not lossless. It is so to the last bit with float32 attention and an uncompressed cache once
# every sequence brings at least two tokens: for a single one other kernels run, which add in another order.
# Rounding activations to 8 bits keeps it and makes passes two to three times as fast; where a processor's
# kernels do not keep it, `Compiled.exact` finds out and they are left in float32.
LEAST_TOKENS = 2
_PRECISE = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32"}
_ROUNDED = {**_PRECISE, "DYNAMIC_QUANTIZATION_GROUP_SIZE": 32}
_UNROUNDED = {**_PRECISE, "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0}


@dataclass(frozen=True, slots=True)
class Feed:
    """Tokens for one sequence; logits are wanted after the given ones of them.

    ``exact``: fill up to ``LEAST_TOKENS``, so that the logits depend on nothing but the tokens.
    """

    sequence: kv_pool.Sequence
    ids: Sequence[int]
    wanted: Sequence[int]
    exact: bool

    @property
    def padding(self) -> int:
        """Tokens that are computed beyond ``ids`` and forgotten."""
        return max(0, LEAST_TOKENS - len(self.ids)) if self.exact else 0


@dataclass(frozen=True, slots=True)
class PassResult:
    """Logits of each feed, shape [len(wanted), vocab], valid until the next pass; and what the pass took."""

    logits: list[Logits]
    seconds: float
    tokens: int


class PagedModel:
    """A compiled model and its cache of ``cache_bytes``, which the system commits as it is touched."""

    def __init__(self, folder: Path, cache_bytes: int, *, rounded: bool = True) -> None:
        core = ov.Core()
        model = core.read_model(folder / "openvino_model.xml")
        paged_attention_transformation(model)
        _with_logit_index(model)
        self._request = core.compile_model(
            model, "CPU", _ROUNDED if rounded else _UNROUNDED
        ).create_infer_request()
        self._pool = self._allocate(cache_bytes)

    @property
    def cache_used(self) -> float:
        """Share of the cache that sequences hold, 0 to 1."""
        return self._pool.used

    def sequence(self) -> kv_pool.Sequence:
        """Return a new, empty sequence."""
        return kv_pool.Sequence(self._pool)

    def forward(self, feeds: Sequence[Feed]) -> PassResult:
        """Feed several sequences, each once, in one pass. Blocks must be reserved: see ``reserve``."""
        started = time.perf_counter()
        layout = _Layout()
        for feed in feeds:
            layout.add(feed, self._pool.block_tokens)
        for name, tensor in layout.tensors():
            self._request.set_tensor(name, tensor)
        self._request.infer()
        for feed in feeds:
            feed.sequence.length += len(feed.ids)
        found = self._request.get_tensor("logits").data[:, 0]
        ends = np.cumsum([len(feed.wanted) for feed in feeds])[:-1]
        return PassResult(np.split(found, ends), time.perf_counter() - started, layout.tokens)

    def _allocate(self, cache_bytes: int) -> kv_pool.KvPool:
        caches = [
            (name, port)
            for port in self._request.model_inputs
            for name in port.names
            if name.startswith(("key_cache.", "value_cache."))
        ]
        shapes = {name: [dim.get_length() for dim in list(port.partial_shape)[1:]] for name, port in caches}
        size = sum(int(np.prod(shapes[name])) * port.element_type.size for name, port in caches)
        blocks = max(1, cache_bytes // size)
        for name, port in caches:
            self._request.set_tensor(name, ov.Tensor(port.element_type, ov.Shape([blocks, *shapes[name]])))
        return kv_pool.KvPool(blocks, shapes[caches[0][0]][1])


def reserve(feed: Feed) -> None:
    """Hold the blocks that a feed needs. Raises RequestFailed QUEUE_FULL."""
    feed.sequence.reserve(len(feed.ids) + feed.padding)


class _Layout:
    """The inputs of one pass: all sequences' tokens in a row, and where each one's blocks are."""

    def __init__(self) -> None:
        self._ids: list[int] = []
        self._positions: list[int] = []
        self._past: list[int] = []
        self._begins = [0]
        self._blocks: list[int] = []
        self._block_begins = [0]
        self._wanted: list[int] = []
        self._longest = 0

    @property
    def tokens(self) -> int:
        """Tokens in the pass."""
        return len(self._ids)

    def add(self, feed: Feed, block_tokens: int) -> None:
        """Append one sequence's tokens."""
        sequence, start = feed.sequence, len(self._ids)
        self._ids += [*feed.ids, *[0] * feed.padding]
        end = sequence.length + len(self._ids) - start
        self._positions += range(sequence.length, end)
        self._past.append(sequence.length)
        self._begins.append(len(self._ids))
        self._blocks += sequence.blocks[: -(-end // block_tokens)]
        self._block_begins.append(len(self._blocks))
        self._wanted += [start + position for position in feed.wanted]
        self._longest = max(self._longest, end)

    def tensors(self) -> Iterable[tuple[str, ov.Tensor]]:
        """Return the model's inputs by name."""
        wide = {"input_ids": self._ids, "position_ids": self._positions, "logit_index": self._wanted}
        narrow = {
            "past_lens": self._past,
            "subsequence_begins": self._begins,
            "block_indices": self._blocks,
            "block_indices_begins": self._block_begins,
            "max_context_len": self._longest,
        }
        for name, numbers in wide.items():
            yield name, ov.Tensor(np.array(numbers, np.int64))
        for name, value in narrow.items():
            yield name, ov.Tensor(np.array(value, np.int32))


def _with_logit_index(model: ov.Model) -> None:
    """Add an input ``logit_index`` that names the positions whose logits are computed.

    The head is a fifth of a small model's work, and a long prompt needs one position of it.
    """
    head = model.output("logits").get_node().input_value(0).get_node()
    if head.get_type_name() != "MatMul":
        raise ValueError(f"the model ends in {head.get_type_name()}, not in a MatMul")
    index = ops.parameter([-1], ov.Type.i64, name="logit_index")
    index.output(0).set_names({"logit_index"})
    picked = ops.gather(head.input_value(0), index, ops.constant(0, ov.Type.i64))
    head.input(0).replace_source_output(picked.output(0))
    model.add_parameters([index])
    model.validate_nodes_and_infer_types()
