"""When drafts fare so badly, or the verifier is so unsure, that the frontier should go on. Pure."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

# Quantile of the normal distribution.
_Z95 = 1.645


@dataclass(frozen=True, slots=True)
class Why:
    """The reason for a hand-over: ``code`` is "low_acceptance" or "unsure"; ``detail`` is for people."""

    code: str
    detail: str


class AcceptanceWindow:
    """How the drafts judged in the last ``size`` tokens of the answer fared.

    Only drafts on which a verdict fell count: those behind a rejected one are void, and counting them would
    make the share depend on how long the drafts are. Each token of the answer carries one outcome: its draft
    stood, a rejected draft was replaced here, or nothing was judged (the verifier wrote it unasked). So
    outcomes leave with the text that they belong to, also while drafting pauses.
    """

    def __init__(self, size: int) -> None:
        self._outcomes: deque[bool | None] = deque(maxlen=size)
        self._size = size

    def add(self, drafted: int, accepted: int, produced: int) -> None:
        """Take one round.

        Args:
            drafted: tokens proposed to it.
            accepted: how many of them stood, from the first on.
            produced: tokens that it added to the answer, the accepted ones among them.
        """
        rejected = min(1, drafted - accepted)
        unasked = max(0, produced - accepted - rejected)
        self._outcomes.extend([True] * accepted + [False] * rejected + [None] * unasked)

    @property
    def share(self) -> float | None:
        """The accepted share; ``None`` until the window is full, and where nothing in it was judged."""
        judged = self._judged()
        return sum(judged) / len(judged) if judged else None

    def below(self, bound: float) -> bool:
        """Whether the share is under ``bound``.

        While drafting pauses only probes are judged. Where that leaves less than a quarter of the window,
        the share has to be under it with one-sided 95 % confidence (Wilson 1927, upper score limit).
        """
        judged = self._judged()
        if not judged:
            return False
        count, share = len(judged), sum(judged) / len(judged)
        return (share if 4 * count >= self._size else _upper_limit(share, count)) < bound

    def _judged(self) -> list[bool]:
        full = len(self._outcomes) == self._size
        return [outcome for outcome in self._outcomes if outcome is not None] if full else []


def _upper_limit(share: float, count: int) -> float:
    weight = _Z95**2 / count
    spread = _Z95 * math.sqrt(share * (1 - share) / count + weight / (4 * count))
    return (share + weight / 2 + spread) / (1 + weight)


class CertaintyWindow:
    """The verifier's own probability of the last ``size`` tokens of the answer, as a mean.

    The probability is the one of the token that was said, at temperature 1 and after the constraint's mask,
    whoever proposed it. Its arithmetic mean is the share of these tokens that the verifier would be expected
    to say again; unlike a mean of logarithms no single token can rule it.
    """

    def __init__(self, size: int) -> None:
        self._probabilities: deque[float] = deque(maxlen=size)
        self._size = size

    def add(self, probabilities: Iterable[float]) -> None:
        """Take the probabilities of new tokens."""
        self._probabilities.extend(probabilities)

    @property
    def mean(self) -> float | None:
        """The mean; ``None`` until the window is full."""
        if len(self._probabilities) < self._size:
            return None
        return sum(self._probabilities) / self._size


class Escalation:
    """Both measures of one answer against their bounds; a bound of 0 is never crossed.

    Args:
        window: tokens of the answer that are looked back on.
        low_acceptance: the bound of the accepted share.
        unsure: the bound of the verifier's mean probability.
    """

    def __init__(self, window: int, low_acceptance: float, unsure: float) -> None:
        self._size = window
        self._low_acceptance, self._unsure = low_acceptance, unsure
        self._accepted, self._certain = AcceptanceWindow(window), CertaintyWindow(window)

    @property
    def possible(self) -> bool:
        """Whether any bound is set."""
        return self._low_acceptance > 0 or self._unsure > 0

    def add(self, drafted: int, accepted: int, probabilities: Iterable[float]) -> None:
        """Take one round: what was drafted, what stood, and the probability of each token it added."""
        new = tuple(probabilities)
        self._accepted.add(drafted, accepted, len(new))
        self._certain.add(new)

    def why(self) -> Why | None:
        """Return why the rest is better left to the frontier, if it is."""
        share, mean = self._accepted.share, self._certain.mean
        if share is not None and self._accepted.below(self._low_acceptance):
            return Why(
                "low_acceptance",
                f"{share:.0%} of the drafts judged in the last {self._size} tokens were accepted, "
                f"below the {self._low_acceptance:.0%} asked for",
            )
        if mean is not None and mean < self._unsure:
            return Why(
                "unsure",
                f"the verifier gave the last {self._size} tokens a mean probability of {mean:.2f}, "
                f"below the {self._unsure:.2f} asked for",
            )
        return None
