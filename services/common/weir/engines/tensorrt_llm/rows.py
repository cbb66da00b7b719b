"""What the model expects after each position of a sequence, and which returned row is whose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from weir.engines.base import Candidate, Prediction
from weir.engines.tensorrt_llm.outputs import candidates

T = TypeVar("T")
FloatArray = npt.NDArray[np.float32]
# Rounding of 16-bit arithmetic between a cached and a fresh pass stays well below this (nats).
_AGREEMENT = 0.2


@dataclass(frozen=True, slots=True)
class Row:
    """The distribution after one position: the best, and all logits (shape [vocab]) where known."""

    best: tuple[Candidate, ...]
    logits: FloatArray | None = None

    def logprob(self, token_id: int) -> float | None:
        """Natural-log probability of a token; ``None`` where it is not among the known ones."""
        if self.logits is not None:
            return float(log_softmax(self.logits)[token_id])
        return next((one.logprob for one in self.best if one.id == token_id), None)


def align(entries: Sequence[T], length: int, *, trailing: bool) -> dict[int, T]:
    """Match entries to positions, from the end: after block reuse only the uncached tail comes back.

    Args:
        entries: one per position of the tail, in order.
        length: tokens of the whole sequence.
        trailing: whether the last entry tells what follows the last token, else it tells of that token.

    Returns:
        Position to the entry that tells what follows it.
    """
    first = length - len(entries) if trailing else length - 1 - len(entries)
    return {first + at: entry for at, entry in enumerate(entries) if first + at >= 0}


def row_of_entry(entry: Mapping[int, Any], wanted: int, current: int) -> Row:
    """Read one ``prompt_logprobs`` entry of ``wanted`` best tokens.

    Releases differ in adding the prompt's own token at this position beside the best; its value belongs to
    another position in some, so it is left out where it is such an extra.
    """
    if len(entry) > wanted:
        entry = {token_id: value for token_id, value in entry.items() if token_id != current}
    return Row(candidates(entry))


def row_of_logits(logits: FloatArray, top: int) -> Row:
    """Keep a row's logits (shape [vocab]) and its ``top`` best candidates."""
    logprobs = log_softmax(logits)
    count = min(max(top, 1), logprobs.size)
    chosen = np.argpartition(-logprobs, count - 1)[:count]
    ordered = chosen[np.lexsort((chosen, -logprobs[chosen]))]
    best = tuple(Candidate(int(one), float(logprobs[one])) for one in ordered if np.isfinite(logprobs[one]))
    return Row(best, logits)


def log_softmax(logits: FloatArray) -> FloatArray:
    """Natural-log probabilities of unnormalized logits (shape [vocab]); minus infinity stays."""
    shifted = logits - logits.max()
    normalized: FloatArray = shifted - np.log(np.exp(shifted).sum(dtype=np.float64)).astype(np.float32)
    return normalized


def masked(logits: FloatArray, mask: bytes) -> FloatArray:
    """Set every logit to minus infinity whose bit in the little-endian ``mask`` is not set."""
    bits = np.unpackbits(np.frombuffer(mask, dtype=np.uint8), bitorder="little")[: logits.size].astype(bool)
    allowed = np.zeros(logits.size, dtype=bool)
    allowed[: bits.size] = bits
    return np.where(allowed, logits, np.float32(-np.inf))


def agree(row: Row, truth: Row) -> bool:
    """Whether a row of candidates tells of the same position as a fully known one."""
    found = row.logprob(truth.best[0].id)
    return found is not None and abs(found - truth.best[0].logprob) < _AGREEMENT


def predictions(
    rows: Sequence[Row], ids: Sequence[int], *, top: int, logits: bool, masks: Sequence[bytes] | None
) -> list[Prediction]:
    """Turn the rows after each of ``ids`` into predictions; masks are applied before normalizing."""
    if masks is not None:
        known = [_known(row) for row in rows]
        rows = [row_of_logits(masked(full, mask), top) for full, mask in zip(known, masks, strict=True)]
    following = [*ids[1:], None]
    return [
        Prediction(
            top=row.best[: max(top, 1)],
            next_logprob=None if following_id is None else row.logprob(following_id),
            logits=row.logits if logits else None,
        )
        for row, following_id in zip(rows, following, strict=True)
    ]


def _known(row: Row) -> FloatArray:
    if row.logits is None:
        raise ValueError("masks need rows with logits")
    return row.logits
