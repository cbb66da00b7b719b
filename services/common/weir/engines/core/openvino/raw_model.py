"""The model as a plain function from tokens to logits, with a KV cache that can be rewound for free."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import openvino as ov
from openvino import opset13 as ops

Logits = npt.NDArray[np.float32]

# What a token's logits are must not depend on the chunk that it is fed in, nor on what was rewound before
# it, else verification is not lossless. Measured on 8 real prompts, chunks of 1 to 4 after rewinds of 4,
# against one by one: f32 without dynamic quantization moves logits by 1e-4 at most and no arg-max of 256;
# bf16, a third faster, by 1.5 and 2 of 256. The 8-bit KV cache moves log-probabilities by up to 0.4 nats.
_EXACT = {
    "INFERENCE_PRECISION_HINT": "f32",
    "KV_CACHE_PRECISION": "f32",
    "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
}
# Dead cache slots past which they are taken out: a copy of the cache, against attention over them.
_MAX_DEAD = 256


def _with_logit_index(model: ov.Model) -> None:
    """Add an input ``logit_index`` that names the positions whose logits are computed.

    The head is a fifth of a small model's work, and a long prompt needs one position of it.
    """
    head = model.output("logits").get_node().input_value(0).get_node()
    if head.get_type_name() != "MatMul":
        raise ValueError(f"the model ends in {head.get_type_name()}, not in a MatMul")
    index = ops.parameter([-1], ov.Type.i64, name="logit_index")
    index.output(0).set_names({"logit_index"})
    picked = ops.gather(head.input_value(0), index, ops.constant(1, ov.Type.i64))
    head.input(0).replace_source_output(picked.output(0))
    model.add_parameters([index])
    model.validate_nodes_and_infer_types()


class RawModel:
    """A compiled stateful model; one ``RawSequence`` per token sequence."""

    def __init__(self, folder: Path) -> None:
        core = ov.Core()
        model = core.read_model(folder / "openvino_model.xml")
        _with_logit_index(model)
        self._compiled = core.compile_model(model, "CPU", _EXACT)
        self.inputs = frozenset(name for port in self._compiled.inputs for name in port.names)
        self._free: list[ov.InferRequest] = []

    def warm_up(self, token: int) -> None:
        """Run one short inference."""
        sequence = RawSequence(self)
        sequence.forward([token] * 4, [3])
        sequence.close()

    def acquire(self) -> ov.InferRequest:
        """Return an infer request with an empty state."""
        return self._free.pop() if self._free else self._compiled.create_infer_request()

    def release(self, request: ov.InferRequest) -> None:
        """Empty the state and keep the request for the next sequence."""
        request.reset_state()
        self._free.append(request)


class RawSequence:
    """A token sequence and its KV cache.

    Rewinding masks cache slots as dead, for free; past ``_MAX_DEAD`` of them the cache is copied without.
    """

    def __init__(self, model: RawModel) -> None:
        self._model = model
        self._request: ov.InferRequest | None = model.acquire()
        self._mask = np.zeros(256, np.int64)
        self._slots = 0
        self.length = 0

    def forward(self, ids: Sequence[int], positions: Sequence[int]) -> Logits:
        """Feed ``ids`` and return the logits after the given ones of them, shape [len(positions), vocab]."""
        request = self._open()
        if self._slots - self.length > _MAX_DEAD:
            self._compact(np.flatnonzero(self._mask[: self._slots]))
        count = len(ids)
        self._grow(count)
        end = self._slots + count
        self._mask[self._slots : end] = 1
        feed = {
            "input_ids": np.array([ids], np.int64),
            "attention_mask": self._mask[None, :end],
            "position_ids": np.arange(self.length, self.length + count, dtype=np.int64)[None],
            "beam_idx": np.zeros(1, np.int32),
            "logit_index": np.array(positions, np.int64),
        }
        request.infer({name: value for name, value in feed.items() if name in self._model.inputs})
        self._slots, self.length = end, self.length + count
        logits: Logits = request.get_tensor("logits").data[0].astype(np.float32)
        return logits

    def rewind(self, length: int) -> None:
        """Forget everything past the first ``length`` tokens."""
        if not 0 <= length <= self.length:
            raise ValueError(f"cannot rewind {self.length} tokens to {length}")
        live = np.flatnonzero(self._mask[: self._slots])
        self._mask[live[length:]] = 0
        self.length = length

    def close(self) -> None:
        """Give the infer request back. May be called twice."""
        if self._request is not None:
            self._model.release(self._request)
            self._request = None

    def _open(self) -> ov.InferRequest:
        if self._request is None:
            raise RuntimeError("the sequence is closed")
        return self._request

    def _grow(self, count: int) -> None:
        if self._slots + count > len(self._mask):
            longer = np.zeros(2 * (self._slots + count), np.int64)
            longer[: self._slots] = self._mask[: self._slots]
            self._mask = longer

    def _compact(self, live: npt.NDArray[np.int64]) -> None:
        for state in self._open().query_state():
            state.state = ov.Tensor(np.ascontiguousarray(state.state.data[:, :, live]))
        self._slots = len(live)
        self._mask[: self._slots] = 1
        self._mask[self._slots :] = 0
