"""The distribution that a draft is drawn from: truncated to few tokens, so that it can travel whole."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

# Candidates of a drafted token. Speculative sampling is exact for any distribution that the verifier knows.
SUPPORT = 16


def shape_draft(
    ids: Sequence[int],
    logprobs: Sequence[float],
    temperature: float,
    top_p: float | None = None,
    top_k: int | None = None,
) -> tuple[list[int], npt.NDArray[np.float64]]:
    """Return the tokens that may be drawn, best first, and their probabilities q, all positive, summing to 1.

    Args:
        ids: the most likely tokens, best first.
        logprobs: their natural-log probabilities at temperature 1.
        temperature: above 0.
        top_p: the nucleus is the shortest prefix whose mass reaches it.
        top_k: so many tokens at most; ``None`` or 0 cuts nothing.
    """
    kept = list(ids[: top_k or None])
    weights = np.array(logprobs[: len(kept)], np.float64) / temperature
    q = np.exp(weights - weights.max())
    q /= q.sum()
    if top_p is not None:
        q = q[: int(np.searchsorted(np.cumsum(q), top_p)) + 1]
    q = q[q > 0]
    return kept[: len(q)], q / q.sum()
