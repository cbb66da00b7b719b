"""When a drafted token stands: speculative sampling, and the probability threshold. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from weir.engines.base import Candidate, Prediction
from weir.verifier.distribution import Probabilities, Shape, draw, log_probability, probabilities

# A drafter's candidates count as its whole distribution when they leave out no more than this.
_MISSING_MASS = 1e-3


@dataclass(frozen=True, slots=True)
class DraftToken:
    """A proposed token; ``proposal`` is the whole distribution that it was drawn from, where known."""

    id: int
    proposal: tuple[Candidate, ...] = ()


@dataclass(frozen=True, slots=True)
class Lossless:
    """The output is distributed exactly as the verifier's own."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """A token stands while the verifier gives it at least this probability."""

    min_probability: float


Rule = Lossless | Threshold


class Judge(Protocol):
    """One rule under one sampling shape."""

    @property
    def needs_logits(self) -> bool:
        """Whether predictions must carry their logits."""
        ...

    def accepts(self, draft: DraftToken, prediction: Prediction) -> bool:
        """Decide on a drafted token from the prediction for its position."""
        ...

    def replace(self, draft: DraftToken, prediction: Prediction) -> int:
        """Return the token that goes where ``draft`` was rejected."""
        ...

    def choose(self, prediction: Prediction) -> int:
        """Return the verifier's own next token."""
        ...


class Greedy:
    """Lossless at temperature 0: a token stands while it is the arg-max."""

    needs_logits = False

    def accepts(self, draft: DraftToken, prediction: Prediction) -> bool:
        """Compare with the arg-max."""
        return draft.id == prediction.top[0].id

    def replace(self, draft: DraftToken, prediction: Prediction) -> int:
        """Return the arg-max."""
        del draft
        return self.choose(prediction)

    def choose(self, prediction: Prediction) -> int:
        """Return the arg-max."""
        return prediction.top[0].id


class Speculative:
    """Lossless above temperature 0 (Leviathan et al. 2023; Chen et al. 2023).

    With the drafter's whole distribution q known, x ~ q stands with probability min(1, p(x)/q(x)), and what
    replaces it is drawn from norm(max(0, p - q)).

    With q unknown, the draft is taken as the point that it is: x stands with probability p(x), and what
    replaces it is drawn from p without x. Then P(out = x) = p(x), and for any other y
    P(out = y) = (1 - p(x)) * p(y) / (1 - p(x)) = p(y): the output follows p for every x, however x came
    about, as long as the random numbers here are independent of the drafter's. It only accepts less often.

    p is always the distribution after the constraint's mask, temperature, top-k and top-p.
    """

    needs_logits = True

    def __init__(self, shape: Shape, rng: np.random.Generator) -> None:
        self._shape = shape
        self._rng = rng

    def accepts(self, draft: DraftToken, prediction: Prediction) -> bool:
        """Draw whether the token stands."""
        p = float(self._target(prediction)[draft.id])
        q = _proposal(draft)
        ratio = p if q is None else p / q[draft.id]
        return float(self._rng.random()) < ratio

    def replace(self, draft: DraftToken, prediction: Prediction) -> int:
        """Draw from the residual distribution."""
        p = self._target(prediction)
        residual = p.copy()
        q = _proposal(draft)
        if q is None:
            residual[draft.id] = 0.0
        else:
            ids = np.fromiter(q, dtype=np.int64)
            residual[ids] -= np.fromiter(q.values(), dtype=np.float64)
            np.maximum(residual, 0.0, out=residual)
        # Without residual mass p equals q, so that a rejection is rounding: p itself is right then.
        return draw(residual if residual.sum() > 0 else p, self._rng)

    def choose(self, prediction: Prediction) -> int:
        """Draw from p."""
        return draw(self._target(prediction), self._rng)

    def _target(self, prediction: Prediction) -> Probabilities:
        if prediction.logits is None:
            raise ValueError("speculative sampling needs logits")
        return probabilities(prediction.logits, self._shape)


class AtLeast:
    """The threshold rule: a token stands while p(token) is at least the minimum.

    p is the verifier's own distribution at temperature 1, after the constraint's mask and nothing else: what
    the model believes, whatever the sampling. Below the minimum the verifier's own choice goes there, which
    follows the sampling.
    """

    def __init__(self, rule: Threshold, own: Greedy | Speculative) -> None:
        self._minimum = rule.min_probability
        self._own = own

    @property
    def needs_logits(self) -> bool:
        """Whether the verifier's own choice is drawn."""
        return self._own.needs_logits

    def accepts(self, draft: DraftToken, prediction: Prediction) -> bool:
        """Compare the token's probability with the minimum."""
        return math.exp(logprob_of(draft.id, prediction)) >= self._minimum

    def replace(self, draft: DraftToken, prediction: Prediction) -> int:
        """Let the verifier choose freely."""
        del draft
        return self._own.choose(prediction)

    def choose(self, prediction: Prediction) -> int:
        """Let the verifier choose freely."""
        return self._own.choose(prediction)


def judge(rule: Rule, shape: Shape, rng: np.random.Generator) -> Judge:
    """Return the judge for a rule and a sampling shape."""
    own = Greedy() if shape.greedy else Speculative(shape, rng)
    return AtLeast(rule, own) if isinstance(rule, Threshold) else own


def standing(judged_by: Judge, drafts: Sequence[DraftToken], predictions: Sequence[Prediction]) -> int:
    """Return how many leading drafts stand; ``predictions[i]`` is for the position of ``drafts[i]``."""
    for count, (draft, prediction) in enumerate(zip(drafts, predictions, strict=False)):
        if not judged_by.accepts(draft, prediction):
            return count
    return min(len(drafts), len(predictions))


def logprob_of(token: int, prediction: Prediction) -> float:
    """Return a token's log-probability at temperature 1.

    ``token`` is the one fed next in the same pass, among the candidates, or any where there are logits.
    """
    if prediction.next_logprob is not None:
        return prediction.next_logprob
    for candidate in prediction.top:
        if candidate.id == token:
            return candidate.logprob
    if prediction.logits is None:
        raise ValueError("a token that is neither fed nor a candidate needs logits")
    return log_probability(prediction.logits, token)


def _proposal(draft: DraftToken) -> dict[int, float] | None:
    """Return q, renormalized, or ``None`` where the drafter told less than its whole distribution."""
    q = {candidate.id: math.exp(candidate.logprob) for candidate in draft.proposal}
    mass = math.fsum(q.values())
    if not abs(mass - 1.0) <= _MISSING_MASS or q.get(draft.id, 0.0) <= 0.0:
        return None
    return {token: share / mass for token, share in q.items()}
