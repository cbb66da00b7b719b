"""What a pass without drafts may be fed beyond its token: what followed the last tokens before."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

from weir.engines.text.lookup import NgramIndex
from weir.verifier.speculation.acceptance_rate import GUESS, AnswerRates
from weir.verifier.speculation.gain import Costs, best_sequential

# Tokens that must match, at most; a longer match is more often right.
_MAX_NGRAM = 3
_LONGEST = 16


class Guesses:
    """Guesses for one answer, by prompt lookup (see `NgramIndex`).

    A guess costs no drafting, only its place in the pass, and of such places an engine computes a few in any
    case (`Costs.width`). So one is made wherever it pays, most often of a single token. It is no draft: the
    verifier chooses each token as it does without, and a right guess only saves it a pass.

    Args:
        prompt_ids: that the answer may repeat.
        rates: of the answer; how often guesses are right is kept by the length of the match.
    """

    def __init__(self, prompt_ids: Sequence[int], rates: AnswerRates) -> None:
        self._index = NgramIndex(_MAX_NGRAM, 1)
        self._index.extend(prompt_ids)
        self._rates = rates
        self._proposal = self._index.propose(_LONGEST)

    @property
    def gain(self) -> float:
        """Tokens that a pass alone is expected to give with a single guess."""
        return 1.0 + self._rates.rate(GUESS)

    def next(self, costs: Costs, longest: int) -> tuple[int, ...]:
        """Return the guesses that pay in a pass of such costs, at most ``longest``."""
        if self._proposal is None:
            return ()
        free = replace(costs, draft_s=0.0, round_s=0.0)
        rate = self._rates.rate(_matching(self._proposal.ngram))
        return self._proposal.ids[: best_sequential(rate, free, min(longest, _LONGEST)).length]

    def said(self, ids: Sequence[int]) -> None:
        """Take what followed; every guess is judged by it, made or not."""
        guessed = self._proposal.ids if self._proposal else ()
        pairs = list(zip(guessed, ids, strict=False))
        right = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
        if ids:
            self._rates.judged(GUESS, 1, min(right, 1))
        if self._proposal and pairs:
            self._rates.judged(_matching(self._proposal.ngram), min(right + 1, len(pairs)), right)
        self._index.extend(ids)
        self._proposal = self._index.propose(_LONGEST)


def _matching(ngram: int) -> str:
    return f"{GUESS} {ngram}"
