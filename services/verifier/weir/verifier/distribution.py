"""Sampling distributions: from logits to the probabilities that a token is drawn from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from weir.engines.base import Sampling

Probabilities = npt.NDArray[np.float64]

# Keeps this service's draws independent of a drafter's that was seeded alike: speculative sampling needs it.
_STREAM = 0x77656972


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

    @classmethod
    def of(cls, sampling: Sampling, temperature: float | None, top_p: float | None) -> Shape:
        """Take the request's sampling over the tier's defaults; where neither says, decoding is greedy."""
        chosen = sampling.temperature if sampling.temperature is not None else temperature
        nucleus = sampling.top_p if sampling.top_p is not None else top_p
        return cls(chosen or 0.0, sampling.top_k or None, nucleus)


def probabilities(logits: npt.NDArray[np.float32], shape: Shape) -> Probabilities:
    """Return softmax(logits / temperature), cut to the top k, then to the top-p nucleus, renormalized.

    Args:
        logits: shape [vocab]; ``-inf`` where a token is impossible.
        shape: with a temperature above 0.

    The nucleus is the shortest prefix of the sorted tokens whose mass reaches ``top_p``; among equal logits
    the lower id comes first. Returns shape [vocab], float64, summing to 1.
    """
    scaled = logits.astype(np.float64) / shape.temperature
    weights = np.exp(scaled - scaled.max())
    weights = np.asarray(weights / weights.sum())
    if shape.top_k is None and shape.top_p is None:
        return weights
    order = np.argsort(-weights, kind="stable")[: shape.top_k]
    if shape.top_p is not None:
        mass = np.cumsum(weights[order]) / weights[order].sum()
        order = order[: int(np.searchsorted(mass, shape.top_p - 1e-12)) + 1]
    kept = np.zeros_like(weights)
    kept[order] = weights[order]
    return np.asarray(kept / kept.sum())


def log_probability(logits: npt.NDArray[np.float32], token: int) -> float:
    """Return the natural-log probability of one token at temperature 1."""
    wide = logits.astype(np.float64)
    peak = wide.max()
    return float(wide[token] - peak - np.log(np.exp(wide - peak).sum()))


def draw(distribution: Probabilities, rng: np.random.Generator) -> int:
    """Draw one id by inverting the cumulative distribution."""
    cumulative = np.cumsum(distribution)
    position = int(np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right"))
    return min(position, len(distribution) - 1)


def generator(seed: int | None) -> np.random.Generator:
    """Return the random numbers of one request; with a seed, always the same."""
    return np.random.default_rng(None if seed is None else [_STREAM, seed])
