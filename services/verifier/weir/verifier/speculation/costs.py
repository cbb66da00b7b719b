"""What drafting and verifying cost here, as measured while it runs. Pure: times come from the caller."""

from __future__ import annotations

import copy

from weir.engines.base import Pass
from weir.verifier.speculation.gain import Costs

# Share of the evidence that is left after another observation: about 200 and 50 of them count.
_KEEP_PASS = 0.995
_KEEP_DRAFT = 0.98
# Weight of the newest observation where a plain running mean does.
_FOLLOW = 0.1
# A pass that took so many times what was expected was held up by something else; it counts as this much.
_HELD_UP = 3.0
# Before anything is known, and until passes of different sizes were seen: a pass, and a token's share of it.
_PRIOR_PASS_S = 0.05
_PRIOR_SHARE = 0.05
_PRIOR_SPREAD = 1.0
# What was learned elsewhere counts as so many observations.
_FIRST_GUESS = 4.0
# Before anything is known, a draft step costs this share of a pass, and a round trip so many seconds.
_PRIOR_DRAFT_SHARE = 0.2
_PRIOR_ROUND_S = 0.002
# A shared pass may hold another answer's prompt: what is wider than drafts are, a sequence, tells nothing.
_WIDEST = 80


class PassCosts:
    """Forgetting least squares of a pass's seconds over its tokens: ``seconds = a + b * tokens``.

    The slope is drawn, with the weight of a spread of one token, toward a share of the mean pass, so that it
    is sane while all passes have one size; both ``a`` and ``b`` stay at or above 0.
    """

    def __init__(self) -> None:
        self._weight = self._x = self._y = self._xx = self._xy = 0.0
        self._sequences = 1.0
        self._queue_s = 0.0
        self.width = 1

    @property
    def queue_s(self) -> float:
        """Seconds that a pass takes its caller beyond what the engine measured: the way there, its turn."""
        return self._queue_s

    @property
    def sequences(self) -> float:
        """How many sequences share a pass."""
        return self._sequences

    def observe(self, cost: Pass, fed: int, seen_s: float) -> None:
        """Take one pass, to which the asking sequence gave ``fed`` tokens and saw it take ``seen_s``."""
        if cost.tokens > _WIDEST * cost.sequences or cost.seconds <= 0.0 or cost.tokens <= 0:
            return
        if cost.sequences == 1:
            # What the engine computed beyond what it was given is its least width.
            self.width = cost.tokens if cost.tokens > fed else min(self.width, fed)
        seconds = cost.seconds
        if self._weight > 1.0:
            seconds = min(seconds, _HELD_UP * self.seconds(cost.tokens))
        # Each of the sequences in a pass reports it.
        weight = 1.0 / cost.sequences
        keep = _KEEP_PASS**weight
        self._weight = keep * self._weight + weight
        self._x = keep * self._x + weight * cost.tokens
        self._y = keep * self._y + weight * seconds
        self._xx = keep * self._xx + weight * cost.tokens**2
        self._xy = keep * self._xy + weight * cost.tokens * seconds
        self._sequences += _FOLLOW * (cost.sequences - self._sequences)
        queue_s = min(max(0.0, seen_s - cost.seconds), _HELD_UP * seconds)
        self._queue_s += _FOLLOW * (queue_s - self._queue_s)

    def first_guess(self, answers: int) -> PassCosts:
        """Return the same with little weight, to begin with where so many answers are at work."""
        copied = copy.copy(self)
        copied._sequences = float(answers)
        share = min(1.0, _FIRST_GUESS / self._weight) if self._weight else 1.0
        copied._weight *= share
        copied._x, copied._y = share * self._x, share * self._y
        copied._xx, copied._xy = share * self._xx, share * self._xy
        return copied

    def line(self) -> tuple[float, float]:
        """Return ``a`` and ``b`` in seconds."""
        if not self._weight:
            return _PRIOR_PASS_S * (1.0 - _PRIOR_SHARE), _PRIOR_PASS_S * _PRIOR_SHARE
        x, y = self._x / self._weight, self._y / self._weight
        spread = max(0.0, self._xx / self._weight - x * x)
        together = self._xy / self._weight - x * y
        # The prior counts as a few observations, whatever their number.
        pull = _PRIOR_SPREAD / self._weight
        slope = (together + pull * _PRIOR_SHARE * y) / (spread + pull)
        slope = min(max(slope, 0.0), y / x)
        return y - slope * x, slope

    def seconds(self, tokens: float) -> float:
        """Return what a pass over so many tokens takes."""
        fixed, slope = self.line()
        return fixed + slope * tokens


class DraftCosts:
    """Forgetting means of what a drafted token takes, and of what waiting for a chunk takes beyond that."""

    def __init__(self) -> None:
        self._tokens = self._seconds = 0.0
        self._chunks = self._round_s = 0.0

    @property
    def known(self) -> bool:
        """Whether anything was measured."""
        return self._tokens > 0.0

    def observe(self, tokens: int, draft_s: float, wait_s: float | None) -> None:
        """Take one chunk; ``wait_s`` is ``None`` where the verifier did not wait from its very beginning."""
        if tokens <= 0:
            return
        self._tokens = _KEEP_DRAFT * self._tokens + tokens
        self._seconds = _KEEP_DRAFT * self._seconds + draft_s
        if wait_s is not None:
            self._chunks = _KEEP_DRAFT * self._chunks + 1.0
            self._round_s = _KEEP_DRAFT * self._round_s + max(0.0, wait_s - draft_s)

    def first_guess(self) -> DraftCosts:
        """Return the same with little weight, to begin with elsewhere."""
        copied = copy.copy(self)
        if self._tokens:
            share = min(1.0, _FIRST_GUESS / self._tokens)
            copied._tokens, copied._seconds = share * self._tokens, share * self._seconds
        if self._chunks:
            share = min(1.0, _FIRST_GUESS / self._chunks)
            copied._chunks, copied._round_s = share * self._chunks, share * self._round_s
        return copied

    def step_s(self, otherwise: float) -> float:
        """Return t_d, or ``otherwise`` where nothing was measured."""
        return self._seconds / self._tokens if self._tokens else otherwise

    @property
    def round_s(self) -> float:
        """Seconds of a round beyond drafting and verification."""
        return self._round_s / self._chunks if self._chunks else _PRIOR_ROUND_S


class RoundCosts:
    """The costs of rounds run in one way, by method of drafting."""

    def __init__(self) -> None:
        self.passes = PassCosts()
        self._drafts: dict[str, DraftCosts] = {}

    def first_guess(self, answers: int) -> RoundCosts:
        """Return the same with little weight, to begin with where so many answers are at work."""
        copied = RoundCosts()
        copied.passes = self.passes.first_guess(answers)
        copied._drafts = {method: drafts.first_guess() for method, drafts in self._drafts.items()}
        return copied

    def drafts(self, method: str) -> DraftCosts:
        """Return what was measured of a method."""
        return self._drafts.setdefault(method, DraftCosts())

    def of(self, method: str, answers: int) -> Costs:
        """Return the costs of one answer's round while ``answers`` are at work.

        A pass that n sessions share takes what all their chunks take, so that each token of a chunk costs
        this answer n times its share; n is what passes were seen to be shared by, and no more than there are
        answers.
        """
        shared = min(self.passes.sequences, float(max(1, answers)))
        fixed, slope = self.passes.line()
        drafts = self.drafts(method)
        return Costs(
            draft_s=drafts.step_s(_PRIOR_DRAFT_SHARE * (fixed + slope)),
            round_s=drafts.round_s,
            pass_s=fixed + self.passes.queue_s,
            token_s=slope * shared,
            width=self.passes.width,
        )
