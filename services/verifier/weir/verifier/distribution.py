"""Sampling distributions: from logits to the probabilities that a token is drawn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from weir.engines.base import Candidate, Sampling

Ids = npt.NDArray[np.int64]
Probabilities = npt.NDArray[np.float64]

# Keeps this service's draws independent of a drafter's that was seeded alike: speculative sampling needs it.
_STREAM = 0x77656972
# A drafter's candidates count as its whole distribution when they leave out no more than this.
_MISSING_MASS = 1e-4
# Logits whose maximum stands for them when the highest of a vocabulary are looked for.
_BLOCK = 64


@dataclass(frozen=True, slots=True)
class Shape:
    """How logits become a distribution; temperature 0 is the arg-max. ``None`` truncates nothing."""

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None

    @property
    def greedy(self) -> bool:
        """Whether nothing is drawn."""
        return self.temperature == 0.0 or self.top_k == 1

    @property
    def plain(self) -> bool:
        """Whether the model's own probabilities stand as they are."""
        return self.temperature == 1.0 and self.top_k is None and self.top_p in {None, 1.0}

    @classmethod
    def of(cls, sampling: Sampling, temperature: float | None, top_p: float | None) -> Shape:
        """Take the request's sampling over the tier's defaults; where neither says, decoding is greedy."""
        chosen = sampling.temperature if sampling.temperature is not None else temperature
        nucleus = sampling.top_p if sampling.top_p is not None else top_p
        return cls(chosen or 0.0, sampling.top_k or None, nucleus)


@dataclass(frozen=True, slots=True)
class Proposal:
    """q, from which a token was drafted: its ids, each once, their probabilities, and that of the token."""

    ids: Ids
    shares: Probabilities
    share: float

    @classmethod
    def point(cls, token: int) -> Proposal:
        """Return the distribution that has nothing but the token."""
        return cls(np.array([token]), np.array([1.0]), 1.0)

    @classmethod
    def told(cls, token: int, candidates: Sequence[Candidate]) -> Proposal | None:
        """Return q, renormalized, or ``None`` where the drafter told less than its whole distribution."""
        if not candidates:
            return None
        ids = np.array([candidate.id for candidate in candidates])
        with np.errstate(over="ignore"):
            shares = np.exp(np.array([candidate.logprob for candidate in candidates]))
        mass = float(shares.sum())
        own = float(shares[ids == token].sum())
        if not abs(mass - 1.0) <= _MISSING_MASS or own <= 0.0 or len(np.unique(ids)) < len(ids):
            return None
        return cls(ids, shares / mass, own / mass)


class Distribution:
    """Probabilities over some ids of a vocabulary, all others having none.

    Args:
        weights: float64, shape [n], proportional to the probabilities.
        ids: shape [n], ascending; ``None`` where the weights are the whole vocabulary's.

    Raises:
        ValueError: the weights have no sum above 0: the logits were not finite.
    """

    __slots__ = ("_ids", "_total", "_weights")

    def __init__(self, weights: Probabilities, ids: Ids | None = None) -> None:
        self._weights = weights
        self._ids = ids
        self._total = float(weights.sum())
        if not self._total > 0:
            raise ValueError("a distribution needs weight")

    def of(self, token: int) -> float:
        """Return a token's probability."""
        [place] = self._places(np.array([token]))
        return 0.0 if place < 0 else float(self._weights[place]) / self._total

    def draw(self, rng: np.random.Generator) -> int:
        """Draw one id by inverting the cumulative distribution."""
        cumulative = np.cumsum(self._weights)
        place = int(np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right"))
        if place == len(cumulative):  # rounded up to the very end, where there may be no weight
            place = int(np.flatnonzero(self._weights)[-1])
        return place if self._ids is None else int(self._ids[place])

    def beyond(self, q: Proposal) -> Distribution:
        """Return norm(max(0, p - q)).

        Where nothing is left p equals q, so that only rounding asks for it: then it is p itself.
        """
        places = self._places(q.ids)
        known = places >= 0
        left = self._weights.copy()
        left[places[known]] -= q.shares[known] * self._total
        np.maximum(left, 0.0, out=left)
        return Distribution(left, self._ids) if left.any() else self

    def _places(self, ids: Ids) -> Ids:
        """Return where the weights of ``ids`` are, -1 for those that have none."""
        if self._ids is None:
            return np.where(ids < len(self._weights), ids, -1)
        places = np.minimum(np.searchsorted(self._ids, ids), len(self._ids) - 1)
        return np.where(self._ids[places] == ids, places, -1)


def distribution(logits: npt.NDArray[np.float32], shape: Shape) -> Distribution:
    """Return softmax(logits / temperature), cut to the top k, then to the top-p nucleus, renormalized.

    Args:
        logits: shape [vocab]; ``-inf`` where a token is impossible.
        shape: with a temperature above 0.

    The nucleus is the shortest prefix of the sorted tokens whose mass reaches ``top_p``; among equal logits
    the lower id comes first. Raises ValueError where no logit is finite.
    """
    ids = _highest(logits, shape.top_k) if shape.top_k and shape.top_k < len(logits) else None
    kept = logits if ids is None else logits[ids]
    with np.errstate(invalid="ignore"):  # of a row without a finite logit, which has no distribution
        weights = np.exp((kept.astype(np.float64) - float(kept.max())) / shape.temperature)
    if shape.top_p is not None and shape.top_p < 1.0:
        places = _nucleus(weights, shape.top_p)
        ids, weights = places if ids is None else ids[places], weights[places]
    return Distribution(weights, ids)


def log_probability(logits: npt.NDArray[np.float32], token: int) -> float:
    """Return the natural-log probability of one token at temperature 1."""
    wide = logits.astype(np.float64)
    peak = wide.max()
    return float(wide[token] - peak - np.log(np.exp(wide - peak).sum()))


def generator(seed: int | None) -> np.random.Generator:
    """Return the random numbers of one request; with a seed, always the same."""
    return np.random.default_rng(None if seed is None else [_STREAM, seed])


def _highest(logits: npt.NDArray[np.float32], count: int) -> Ids:
    """Return the ids, ascending, of the ``count`` < len(logits) highest logits; of equal ones the lower."""
    near = np.flatnonzero(logits >= _bound(logits, count))
    values = logits[near]
    order = np.argsort(-values, kind="stable")[:count]
    return np.sort(near[order])


def _bound(logits: npt.NDArray[np.float32], count: int) -> float:
    """Return a value that at least ``count`` logits reach, and not many more.

    The maxima of ``count`` blocks reach the ``count``-th highest of such maxima: one pass over the vocabulary
    and a partition of a 64th of it, where sorting it all takes milliseconds.
    """
    blocks = len(logits) // _BLOCK
    values = logits[: blocks * _BLOCK].reshape(blocks, _BLOCK).max(axis=1) if blocks >= count else logits
    return float(np.partition(values, len(values) - count)[len(values) - count])


def _nucleus(weights: Probabilities, top_p: float) -> Ids:
    """Return the places of the shortest prefix of the sorted weights that has ``top_p`` of their sum."""
    total = float(weights.sum())
    # What is lighter than this has less than 1 - top_p of the sum all together, so none of it is needed.
    near = np.flatnonzero(weights > 0.5 * (1.0 - top_p) * total / len(weights))
    order = near[np.argsort(-weights[near], kind="stable")]
    mass = np.cumsum(weights[order])
    return np.sort(order[: int(np.searchsorted(mass, (top_p - 1e-12) * total)) + 1])
