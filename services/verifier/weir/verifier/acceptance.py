"""When a drafted token stands: speculative sampling, and the probability threshold. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import numpy as np

from weir.engines.base import Candidate, Prediction
from weir.verifier.distribution import Distribution, Proposal, Shape, distribution, log_probability


@dataclass(frozen=True, slots=True)
class DraftToken:
    """A proposed token.

    Attributes:
        proposal: the whole distribution that it was drawn from, where known.
        ends_unit: whether the answer may be cut behind it; tokens up to the next such stand or fall together.
    """

    id: int
    proposal: tuple[Candidate, ...] = ()
    ends_unit: bool = True


@dataclass(frozen=True, slots=True)
class Lossless:
    """The output is distributed exactly as the verifier's own."""


class Takeover(StrEnum):
    """For how long the verifier writes alone after a rejection under a threshold."""

    TOKEN = "token"  # noqa: S105  (no password)
    STRETCH = "stretch"


@dataclass(frozen=True, slots=True)
class Threshold:
    """A token stands while the verifier gives it at least ``min_probability``.

    This is Big Little Decoder's rollback (Kim et al. 2023, arXiv 2302.07863): there a token of the small
    model is taken back when its distance, the cross-entropy -ln p(token) of it under the large model, exceeds
    alpha_RB; so ``min_probability`` = exp(-alpha_RB).

    Attributes:
        fallback_below: its fallback, alpha_FB: the drafter hands over, undrafted, a token that it gives less
            itself; 0 never.
        takeover: the verifier writes one token after a rejection, as there, or goes on until the drafter
            would have written the same token again.
    """

    min_probability: float
    fallback_below: float = 0.0
    takeover: Takeover = Takeover.TOKEN


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
    """Lossless above temperature 0 (Leviathan et al. 2023, appendix A.1; Chen et al. 2023, theorem 1).

    With the drafter's whole distribution q known, x ~ q stands with probability min(1, p(x)/q(x)), and what
    replaces it is drawn from norm(max(0, p - q)).

    With q unknown, the draft is taken as the point that it is, q(x) = 1: x stands with probability p(x), and
    what replaces it is drawn from p without x. Then P(out = x) = p(x), and for any other y
    P(out = y) = (1 - p(x)) * p(y) / (1 - p(x)) = p(y): the output follows p for every x, however x came
    about, as long as the random numbers here are independent of the drafter's. It only accepts less often.

    p is always the distribution after the constraint's mask, temperature, top-k and top-p. q may be any
    distribution at all: truncated in the same way it is merely accepted most often.
    """

    needs_logits = True

    def __init__(self, shape: Shape, rng: np.random.Generator) -> None:
        self._shape = shape
        self._rng = rng
        self._latest: tuple[Prediction, Distribution] | None = None

    def accepts(self, draft: DraftToken, prediction: Prediction) -> bool:
        """Draw whether the token stands."""
        if self._shape.plain and prediction.next_logprob is not None:
            p = math.exp(prediction.next_logprob)
        else:
            p = self._target(prediction).of(draft.id)
        return float(self._rng.random()) < p / _proposal(draft).share

    def replace(self, draft: DraftToken, prediction: Prediction) -> int:
        """Draw from the residual distribution."""
        return self._target(prediction).beyond(_proposal(draft)).draw(self._rng)

    def choose(self, prediction: Prediction) -> int:
        """Draw from p."""
        return self._target(prediction).draw(self._rng)

    def _target(self, prediction: Prediction) -> Distribution:
        """Return p; a rejection asks for that of the same position again."""
        if self._latest is None or self._latest[0] is not prediction:
            if prediction.logits is None:
                raise ValueError("speculative sampling needs logits")
            self._latest = prediction, distribution(prediction.logits, self._shape)
        return self._latest[1]


class AtLeast:
    """The threshold rule: a token stands while p(token) is at least the minimum.

    p is the verifier's own distribution at temperature 1, after the constraint's mask and nothing else: what
    the model believes, whatever the sampling. Below the minimum the verifier's own choice goes there, which
    follows the sampling.

    At temperature 0 the verifier's own choice is the arg-max, so that a drafted arg-max stands however little
    it is given: replacing it would write the same token. The text is the same with and without this, token
    by token, for a drafter whose drafts follow from the text before them; it saves the void drafts behind a
    replacement and counts the token as the drafter's. Above temperature 0 it would change what is written,
    and does not hold.
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
        if isinstance(self._own, Greedy) and self._own.accepts(draft, prediction):
            return True
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
    """Return how many leading drafts stand, whole units alone; ``predictions[i]`` is for ``drafts[i]``."""
    stood = 0
    for count, (draft, prediction) in enumerate(zip(drafts, predictions, strict=False), start=1):
        if not judged_by.accepts(draft, prediction):
            break
        if draft.ends_unit:
            stood = count
    return stood


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


def _proposal(draft: DraftToken) -> Proposal:
    return Proposal.told(draft.id, draft.proposal) or Proposal.point(draft.id)
