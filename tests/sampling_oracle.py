"""What samplers are held against: probabilities the plain way, and a goodness-of-fit test."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import stats

from weir.engines.base import Candidate, Prediction
from weir.verifier.distribution import Probabilities, Shape

Counts = npt.NDArray[np.int64]

# With fixed seeds the outcome never varies; a right sampler would fail one choice of seeds in 10,000.
SIGNIFICANCE = 1e-4
# Expected counts below this are pooled: the statistic is not chi-square distributed otherwise.
_RARE = 5.0


def reference(logits: npt.NDArray[np.float32], shape: Shape) -> Probabilities:
    """Return temperature, top-k, top-p and renormalization as they are defined, by sorting everything."""
    weights = np.exp((logits.astype(np.float64) - logits.max()) / shape.temperature)
    order = np.argsort(-logits, kind="stable")[: shape.top_k]
    if shape.top_p is not None:
        mass = np.cumsum(weights[order]) / weights[order].sum()
        order = order[: int(np.searchsorted(mass, shape.top_p - 1e-12)) + 1]
    kept = np.zeros_like(weights)
    kept[order] = weights[order]
    return np.asarray(kept / kept.sum())


def p_value(counts: Counts, expected: Probabilities) -> float:
    """Return Pearson's chi-square p-value; 0 where something came out that cannot."""
    if counts[expected == 0].any():
        return 0.0
    wanted = expected * counts.sum()
    rare = wanted < _RARE
    seen = np.append(counts[~rare], counts[rare].sum())
    hoped = np.append(wanted[~rare], wanted[rare].sum())
    return float(stats.chisquare(seen[hoped > 0], hoped[hoped > 0]).pvalue)


def prediction_of(
    logits: npt.NDArray[np.float32], following: int | None = None, *, top: int = 1
) -> Prediction:
    """Return what an engine would predict with these logits."""
    logprobs = logits.astype(np.float64) - np.logaddexp.reduce(logits.astype(np.float64))
    best = np.argsort(-logits, kind="stable")[:top]
    known = None if following is None else float(logprobs[following])
    return Prediction(tuple(Candidate(int(i), float(logprobs[i])) for i in best), known, logits)


def proposal(q: Probabilities) -> tuple[Candidate, ...]:
    """Return a whole distribution as a drafter tells it."""
    return tuple(Candidate(int(i), float(np.log(q[i]))) for i in np.flatnonzero(q))
