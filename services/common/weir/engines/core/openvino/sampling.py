"""From logits to predictions and to the next token, in NumPy, float32."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from weir.engines.core import messages as m
from weir.engines.core.drafting import SUPPORT, shape_draft

Vector = npt.NDArray[np.float32]

# Sorting the whole vocabulary takes milliseconds; so many tokens nearly always hold the top-p mass.
_FEW = 512


def apply_mask(logits: Vector, mask: bytes) -> Vector:
    """Return the logits with the tokens outside ``mask`` (little-endian bit set) at minus infinity."""
    bits = np.unpackbits(np.frombuffer(mask, np.uint8), bitorder="little")[: logits.shape[-1]]
    allowed = np.zeros(logits.shape[-1], bool)
    allowed[: len(bits)] = bits
    return np.where(allowed, logits, np.float32(-np.inf))


def log_normalizer(logits: Vector) -> np.float32:
    """Return log Σ exp(logits)."""
    peak = logits.max()
    return np.float32(peak + np.log(np.exp(logits - peak).sum()))


def row(logits: Vector, *, top: int, following: int | None, keep: bool) -> m.Row:
    """Describe one position: ``top`` candidates, the log-probability of ``following``, the logits."""
    total = log_normalizer(logits)
    best = top_ids(logits, top)
    return m.Row(
        ids=best.tolist(),
        logprobs=(logits[best] - total).tolist(),
        next_logprob=None if following is None else float(logits[following] - total),
        logits=logits.tobytes() if keep else b"",
    )


def top_ids(logits: Vector, count: int) -> npt.NDArray[np.int64]:
    """Return the ids of the ``count`` highest logits, best first, the lower id first among equals."""
    if count == 1:
        return np.array([logits.argmax()])
    count = min(count, logits.shape[-1])
    part = np.sort(np.argpartition(logits, -count)[-count:]) if count else np.empty(0, np.int64)
    return np.asarray(part[np.argsort(-logits[part], kind="stable")])


@dataclass(frozen=True, slots=True)
class Sampler:
    """Draws tokens: temperature, then top-k, then top-p. Temperature 0 is the arg-max."""

    temperature: float
    top_p: float
    top_k: int
    random: np.random.Generator

    @staticmethod
    def of(request: m.Submit) -> Sampler:
        """Return the sampler that a request asks for; the default temperature is 0, as the runtime's."""
        return Sampler(
            temperature=request.temperature or 0.0,
            top_p=1.0 if request.top_p is None else request.top_p,
            top_k=request.top_k or 0,
            random=np.random.default_rng(request.seed),
        )

    def draw(self, logits: Vector) -> int:
        """Return the next token's id."""
        if self.temperature <= 0:
            return int(logits.argmax())
        ids = self._candidates(logits)
        scaled = logits[ids].astype(np.float64) / self.temperature
        weights = np.exp(scaled - scaled[0])
        mass = np.cumsum(weights)
        whole = mass[-1] if self.top_k else float(np.exp(logits / self.temperature - scaled[0]).sum())
        kept = int(np.searchsorted(mass, min(self.top_p * whole, mass[-1]))) + 1
        return int(ids[np.searchsorted(mass[:kept], self.random.random() * mass[kept - 1], side="right")])

    def _candidates(self, logits: Vector) -> npt.NDArray[np.int64]:
        """Return ids best first: the top k, or as many as can hold ``top_p``."""
        if self.top_k:
            return top_ids(logits, self.top_k)
        few = top_ids(logits, _FEW)
        share = np.exp(logits / self.temperature - logits[few[0]] / self.temperature)
        if self.top_p < 1 and share[few].sum() >= self.top_p * share.sum():
            return few
        return top_ids(logits, logits.shape[-1])


@dataclass(frozen=True, slots=True)
class DraftSampler:
    """Draws draft tokens, each from a truncated distribution that is told whole."""

    call: m.Draft
    random: np.random.Generator

    @staticmethod
    def of(call: m.Draft) -> DraftSampler:
        """Return the sampler of one draft."""
        return DraftSampler(call, np.random.default_rng(call.seed))

    def draw(self, logits: Vector) -> tuple[int, m.Row] | None:
        """Return the next token and its row, or ``None`` where the most likely one is not likely enough."""
        call = self.call
        line = row(logits, top=SUPPORT if call.temperature > 0 else 1, following=None, keep=False)
        if call.min_confidence > 0 and line.logprobs[0] < np.log(call.min_confidence):
            return None
        if call.temperature <= 0:
            return line.ids[0], m.Row(line.ids, line.logprobs, line.logprobs[0])
        ids, q = shape_draft(
            line.ids, line.logprobs, temperature=call.temperature, top_p=call.top_p, top_k=call.top_k
        )
        pick = int(self.random.choice(len(q), p=q))
        logprobs = np.log(q).tolist()
        return ids[pick], m.Row(list(ids), logprobs, logprobs[pick])


def chunks(ids: Sequence[int], size: int) -> list[Sequence[int]]:
    """Cut ``ids`` into pieces of at most ``size``."""
    return [ids[at : at + size] for at in range(0, len(ids), size)]
