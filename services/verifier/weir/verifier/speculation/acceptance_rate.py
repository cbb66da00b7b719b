"""How often drafts stand: of this answer, with what was seen in all of them as the prior. Pure."""

from __future__ import annotations

# Judged tokens as which the answers before count in a new one.
_PRIOR_TOKENS = 6.0
# What is left of the evidence after another judged token: about 50 of an answer count, 500 of all.
_KEEP_ANSWER = 0.98
_KEEP_SERVICE = 0.998
# Before anything was judged anywhere, with the weight of so many tokens.
_FIRST_RATE = 0.7
_FIRST_GUESS_RATE = 0.2
_FIRST_TOKENS = 4.0
# Begins the names of the methods that are guesses (`Guesses`), no drafts.
GUESS = "guess"


class _Beta:
    """Counts of judged and accepted tokens that fade: a Beta distribution's parameters, but for the prior."""

    def __init__(self, keep: float, judged: float = 0.0, accepted: float = 0.0) -> None:
        self._keep = keep
        self.judged = judged
        self.accepted = accepted

    def add(self, judged: int, accepted: int) -> None:
        fade = self._keep**judged
        self.judged = fade * self.judged + judged
        self.accepted = fade * self.accepted + accepted

    def relax(self, share: float) -> None:
        self.judged *= share
        self.accepted *= share


class ServiceRates:
    """Accepted shares over all answers of a process, by method of drafting."""

    def __init__(self) -> None:
        self._rates: dict[str, _Beta] = {}

    def rate(self, method: str) -> float:
        """Return the share of judged tokens that stood."""
        rate = self._of(method)
        return rate.accepted / rate.judged

    def judged(self, method: str, judged: int, accepted: int) -> None:
        """Take a round: tokens on which a verdict fell, and those of them that stood."""
        self._of(method).add(judged, accepted)

    def _of(self, method: str) -> _Beta:
        rate = _FIRST_GUESS_RATE if method.startswith(GUESS) else _FIRST_RATE
        return self._rates.setdefault(method, _Beta(_KEEP_SERVICE, _FIRST_TOKENS, _FIRST_TOKENS * rate))


class AnswerRates:
    """Accepted shares in one answer.

    A rate is the mean of a Beta distribution whose prior is the service's rate, worth a few tokens. Only
    judged tokens count: drafts behind a rejected one are void and tell nothing.
    """

    def __init__(self, service: ServiceRates) -> None:
        self._service = service
        self._own: dict[str, _Beta] = {}

    def rate(self, method: str) -> float:
        """Return the probability that the next draft stands."""
        own = self._of(method)
        prior = self._service.rate(method)
        return (own.accepted + _PRIOR_TOKENS * prior) / (own.judged + _PRIOR_TOKENS)

    def judged(self, method: str, judged: int, accepted: int) -> None:
        """Take a round, here and for the service."""
        self._of(method).add(judged, accepted)
        self._service.judged(method, judged, accepted)

    def relax(self, method: str, share: float) -> None:
        """Trust what was seen only so much: the text has moved on without drafts."""
        self._of(method).relax(share)

    def _of(self, method: str) -> _Beta:
        return self._own.setdefault(method, _Beta(_KEEP_ANSWER))
