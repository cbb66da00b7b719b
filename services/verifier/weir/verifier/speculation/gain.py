"""What a draft of k tokens gains, and the k that gains most: closed forms. Pure.

With each drafted token accepted with probability alpha, independently of the others, a round of k drafts
yields ``E(alpha, k) = (1 - alpha^(k+1)) / (1 - alpha)`` tokens (Leviathan, Kalman and Matias 2023, "Fast
inference from transformers via speculative decoding", equation 1). Times are in seconds, rates in tokens per
second.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

_NEWTON_STEPS = 60


@dataclass(frozen=True, slots=True)
class Costs:
    """What the parts of a round take.

    A forward pass over n tokens takes ``pass_s + token_s * max(n, width)``: an engine may compute no fewer
    than ``width`` tokens, or take no longer for so many.

    Attributes:
        draft_s: one drafted token.
        round_s: what else a round with a draft takes: the round trip, the drafter's start.
        pass_s: a forward pass, whatever its tokens.
        token_s: each token of it; above 0, or 0 where more tokens take no longer.
        width: at least 1.
    """

    draft_s: float
    round_s: float
    pass_s: float
    token_s: float
    width: int = 1

    def verify_s(self, tokens: int) -> float:
        """Return t_v: the time of a pass over so many tokens."""
        return self.pass_s + self.token_s * max(tokens, self.width)


@dataclass(frozen=True, slots=True)
class Best:
    """A draft length and the tokens per second that it gives."""

    length: int
    rate: float


def expected_tokens(alpha: float, length: int) -> float:
    """Return E(alpha, length), the tokens of one round, ``length + 1`` for alpha = 1."""
    if not length or alpha in {0.0, 1.0}:
        return 1.0 + alpha * length
    return -math.expm1((length + 1) * math.log(alpha)) / (1.0 - alpha)


def sequential_rate(alpha: float, length: int, costs: Costs) -> float:
    """Return the tokens per second of rounds in which drafting and verification take turns.

    That is E / (k t_d + t_v(k+1)), with the round's own time added where there is a draft.
    """
    drafting = length * costs.draft_s + costs.round_s if length else 0.0
    return expected_tokens(alpha, length) / (drafting + costs.verify_s(length + 1))


def overlapped_rate(alpha: float, length: int, costs: Costs) -> float:
    """Return the tokens per second of rounds in which the drafter drafts on while a chunk is judged.

    Where all k drafts stand and so does the one that the drafter put in the place of the verifier's own
    token, with probability alpha^(k+1), the next chunk is there after max((k+1) t_d, t_v(k+1)): the drafter
    writes the verifier's token too. Else what it drafted meanwhile is void, and a round's drafting comes on
    top, as in sequential rounds. So the time is max((k+1) t_d, t_v) + (1 - alpha^(k+1)) (k t_d + t_r).
    """
    if not length:
        return 1.0 / costs.verify_s(1)
    ahead = max((length + 1) * costs.draft_s, costs.verify_s(length + 1))
    again = (1.0 - alpha ** (length + 1)) * (length * costs.draft_s + costs.round_s)
    return expected_tokens(alpha, length) / (ahead + again)


def stationary_length(alpha: float, fixed_s: float, token_s: float) -> float:
    """Return the real k that maximizes ``E(alpha, k) / (fixed_s + token_s * k)``, possibly infinite or
    negative.

    With l = -ln alpha, u = k + 1 and c = fixed_s / token_s - 1 the derivative is 0 where
    ``e^(l u) = 1 + l (u + c)``. With y = 1 + l (u + c) this is ``y e^-y = e^-(1 + l c)``, so that
    ``y = -W_{-1}(-e^-(1 + l c))``, with the lower branch of Lambert's function (Corless et al. 1996), and
    ``k = (y - 1) / l - c - 1``. The quotient of a concave and a linear function has no other maximum. The
    condition is that of Leviathan et al. 2023, section 3.5, who solve it numerically.

    Args:
        alpha: in [0, 1].
        fixed_s: time of a round without drafts, above 0.
        token_s: time that each draft adds, at least 0.
    """
    if token_s <= 0.0 or alpha >= 1.0:
        return math.inf if fixed_s > token_s else 0.0
    if alpha <= 0.0 or fixed_s <= token_s:
        return 0.0
    decay, over = -math.log(alpha), fixed_s / token_s - 1.0
    return (_lower_branch(decay * over) - 1.0) / decay - over - 1.0


def _lower_branch(excess: float) -> float:
    """Return y >= 1 with ``y - ln y = 1 + excess``, that is ``-W_{-1}(-e^-(1 + excess))``.

    By Newton's method: the start lies above the root of a convex function, so that the steps fall toward it.
    """
    y = 1.0 + math.sqrt(2.0 * excess) + excess
    for _ in range(_NEWTON_STEPS):
        step = (y - math.log(y) - 1.0 - excess) / (1.0 - 1.0 / y) if y > 1.0 else 0.0
        y -= step
        if step <= 1e-12 * y:
            break
    return y


def best_sequential(alpha: float, costs: Costs, longest: int) -> Best:
    """Return the best k in 0..longest where drafting and verification take turns.

    Up to the pass's width a draft adds t_d alone, behind it t_d and its share of the pass: on each side the
    optimum has the closed form of `stationary_length`, held to its side; k is whole, so that its neighbors
    are compared. 0 where no k beats 1 / t_v(1).
    """
    width = costs.width
    narrow = stationary_length(alpha, costs.round_s + costs.verify_s(1), costs.draft_s)
    wide = stationary_length(
        alpha, costs.round_s + costs.pass_s + costs.token_s, costs.draft_s + costs.token_s
    )
    lengths = {0, min(1, longest)}
    for real, low, high in ((narrow, 1, width - 1), (wide, max(1, width - 1), longest)):
        top = min(high, longest)
        if low <= top:
            held = min(max(real, low), top)
            lengths |= {math.floor(held), math.ceil(held)}
    return _best(alpha, sorted(lengths), costs, overlapped=False)


def best_overlapped(alpha: float, costs: Costs, longest: int) -> Best:
    """Return the best k in 0..longest where the drafter drafts on meanwhile, by trying all: it has bends."""
    return _best(alpha, range(longest + 1), costs, overlapped=True)


def _best(alpha: float, lengths: Iterable[int], costs: Costs, *, overlapped: bool) -> Best:
    rate = overlapped_rate if overlapped else sequential_rate
    rates = [Best(length, rate(alpha, length, costs)) for length in lengths]
    return max(rates, key=lambda best: (best.rate, -best.length))
