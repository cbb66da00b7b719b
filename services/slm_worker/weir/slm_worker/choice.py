"""Whether copying or the model drafts the next chunk: whichever promises more tokens per second."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from statistics import median

# Before anything is known copying is tried first: it costs no draft step.
_LOOKUP_PRIOR = 0.85
_MODEL_PRIOR = 0.7
# Tokens that a prior is worth, and what evidence keeps of its weight with another chunk: of a stream, of all.
_PRIOR_WEIGHT = 2.0
_STREAM_MEMORY = 0.9
_WORKER_MEMORY = 0.98
# Costs are medians over so many measurements, so that a held-back verdict or a pause does not count.
_MEASUREMENTS = 7
# Equation 1 has no value at 1.
_HIGHEST_SHARE = 0.999


class AcceptedShare:
    """A running estimate of the chance that a drafted token stands, given that those before it do."""

    def __init__(self, prior: float, memory: float) -> None:
        self._stood, self._judged = prior * _PRIOR_WEIGHT, _PRIOR_WEIGHT
        self._memory = memory

    @property
    def value(self) -> float:
        """The estimate, below 1."""
        return min(_HIGHEST_SHARE, self._stood / self._judged)

    def add(self, stood: int, *, missed: bool) -> None:
        """Take in a chunk: ``stood`` tokens, then one that did not where ``missed``."""
        if stood or missed:
            self._stood = self._stood * self._memory + stood
            self._judged = self._judged * self._memory + stood + missed


class Cost:
    """A running median of seconds; until there is one, that of ``before``."""

    def __init__(self, before: Cost | None = None) -> None:
        self._seconds: deque[float] = deque(maxlen=_MEASUREMENTS)
        self._before = before

    @property
    def value(self) -> float:
        """The median; 0 while nothing was measured."""
        if self._seconds:
            return median(self._seconds)
        return self._before.value if self._before else 0.0

    def add(self, seconds: float) -> None:
        """Take in a measurement."""
        self._seconds.append(seconds)
        if self._before:
            self._before.add(seconds)


def expected_tokens(share: float, count: int) -> float:
    """Return E(a, k) = (1 - a^(k+1)) / (1 - a), the tokens of a round of k = ``count`` drafts.

    Leviathan et al. 2023, equation 1; a is ``share``, below 1. The verifier's own token counts too.
    """
    return float((1.0 - share ** (count + 1)) / (1.0 - share))


class Choice:
    """What a stream has seen of both methods, and which of them pays more.

    With t_d a draft step and w the wait for a verdict, the model's k tokens give E(a, k) / (k * t_d + w)
    tokens a second, or E / max(k * t_d, w) where chunks are drafted ahead, and copied ones E(a, k) / w. A
    proposal is compared with what the verifier says there whether or not it was drafted from, so that copying
    comes back as soon as it would have been right, at no cost. Its a is kept for each length of match.

    Args:
        worker: what all streams have seen, from which this one starts and which it adds to; ``None`` for
            that one itself.
    """

    def __init__(self, worker: Choice | None = None) -> None:
        self._worker = worker
        self._memory = _STREAM_MEMORY if worker else _WORKER_MEMORY
        self.step_s: Cost = Cost(worker.step_s if worker else None)
        self.wait_s: Cost = Cost(worker.wait_s if worker else None)
        self._model = AcceptedShare(worker.model_share if worker else _MODEL_PRIOR, self._memory)
        self._lookup: dict[int, AcceptedShare] = {}

    @property
    def model_share(self) -> float:
        """The chance that a token of the model's stands."""
        return self._model.value

    def lookup_share(self, ngram: int) -> float:
        """Return the chance that a token copied from behind so long a match stands."""
        return self._copying(ngram).value

    def lookup_pays(self, ngram: int, proposed: int, count: int, *, ahead: bool) -> bool:
        """Tell whether ``proposed`` copied tokens beat ``count`` of the model's."""
        wait, drafting = self.wait_s.value, count * self.step_s.value
        busy = max(wait, drafting) if ahead else wait + drafting
        copied = expected_tokens(self.lookup_share(ngram), proposed)
        # Cross-multiplied: what was not measured yet is 0.
        return copied * busy >= expected_tokens(self.model_share, count) * wait

    def model_judged(self, accepted: int, drafted: int) -> None:
        """Take in the verdict on a chunk of the model's."""
        self._model.add(accepted, missed=accepted < drafted)
        if self._worker:
            self._worker.model_judged(accepted, drafted)

    def lookup_compared(self, ngram: int, proposed: Sequence[int], said: Sequence[int]) -> None:
        """Take in what was said where ``proposed`` had been found; more may have been proposed than said."""
        right = 0
        for mine, true in zip(proposed, said, strict=False):
            if mine != true:
                break
            right += 1
        self._copying(ngram).add(right, missed=right < min(len(proposed), len(said)))
        if self._worker:
            self._worker.lookup_compared(ngram, proposed, said)

    def _copying(self, ngram: int) -> AcceptedShare:
        if ngram not in self._lookup:
            prior = self._worker.lookup_share(ngram) if self._worker else _LOOKUP_PRIOR
            self._lookup[ngram] = AcceptedShare(prior, self._memory)
        return self._lookup[ngram]
