"""Drafting for a verifier: tokens ahead of its verdicts, rolled back where it corrects them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from weir.common.errors import ErrorCode, WeirError
from weir.engines.base import Candidate, FinishReason, Prediction, Sampling, Session, TokenInfo

# Support of the sampled draft distribution; it travels whole with each token, as the lossless rule needs it.
SUPPORT = 16


def choose(prediction: Prediction, sampling: Sampling, rng: np.random.Generator) -> TokenInfo:
    """Pick the next draft: the most likely token, or a sample whose whole distribution is in ``top``.

    At temperature T > 0 the draft is drawn from q, the ``SUPPORT`` most likely tokens at temperature T cut to
    top-k and top-p. Speculative sampling (Leviathan et al. 2023) is exact for any q that the verifier knows.
    """
    temperature = sampling.temperature or 0.0
    if temperature == 0.0:
        best = prediction.top[0]
        return TokenInfo(best.id, best.logprob)
    top = prediction.top[: sampling.top_k] if sampling.top_k else prediction.top
    weights = np.array([candidate.logprob for candidate in top]) / temperature
    q = np.exp(weights - weights.max())
    q /= q.sum()
    if sampling.top_p is not None:
        kept = int(np.searchsorted(np.cumsum(q), sampling.top_p)) + 1
        top, q = top[:kept], q[:kept] / q[:kept].sum()
    pick = int(rng.choice(len(q), p=q))
    support = tuple(Candidate(c.id, float(np.log(p))) for c, p in zip(top, q, strict=True) if p > 0)
    return TokenInfo(top[pick].id, float(np.log(q[pick])), support)


class Drafter:
    """A drafted sequence: what was given, what was drafted, and where each chunk begins.

    Args:
        session: empty; it is fed all but the newest token of the sequence.
        prompt_ids: the templated prompt.
        limit: length, in tokens, that the sequence may reach.
    """

    def __init__(
        self,
        session: Session,
        prompt_ids: Sequence[int],
        sampling: Sampling,
        stop_ids: frozenset[int],
        limit: int,
    ) -> None:
        self._session, self._sampling, self._stop_ids, self._limit = session, sampling, stop_ids, limit
        self._ids = list(prompt_ids)
        self._prompt_length = len(self._ids)
        self._starts: dict[int, int] = {}
        self._rng = np.random.default_rng(sampling.seed)
        self.drafted = 0
        self.accepted = 0

    @property
    def ended(self) -> bool:
        """Whether nothing more can be drafted unless a verdict takes something back."""
        stopped = len(self._ids) > self._prompt_length and self._ids[-1] in self._stop_ids
        return stopped or len(self._ids) >= self._limit

    @property
    def finish_reason(self) -> FinishReason:
        """Why the draft ended, as far as it has."""
        return FinishReason.LENGTH if len(self._ids) >= self._limit else FinishReason.STOP

    async def draft(self, sequence: int, count: int) -> list[TokenInfo]:
        """Draft chunk ``sequence``: up to ``count`` tokens, fewer where the answer ends."""
        self._starts[sequence] = len(self._ids)
        drafted: list[TokenInfo] = []
        wanted = 1 if not self._sampling.temperature else SUPPORT
        while len(drafted) < count and not self.ended:
            fed = self._ids[self._session.length :]
            [prediction] = await self._session.extend(fed, top=wanted, last_only=True)
            token = choose(prediction, self._sampling, self._rng)
            drafted.append(token)
            self._ids.append(token.id)
        self.drafted += len(drafted)
        return drafted

    async def settle(self, sequence: int, accepted: int, correction: Sequence[int]) -> bool:
        """Apply a verdict; returns whether chunks after ``sequence`` still stand.

        Raises:
            WeirError: INVALID_REQUEST for a chunk that was not drafted or more accepted than it has.
        """
        start = self._starts.pop(sequence, None)
        following = self._starts.get(sequence + 1, len(self._ids))
        if start is None or accepted > following - start:
            hint = f"The verdict on chunk {sequence} fits no drafted chunk."
            raise WeirError(
                ErrorCode.INVALID_REQUEST, hint, fields={"ack.sequence": "unknown or too much accepted"}
            )
        self.accepted += accepted
        if start + accepted == following and not correction:
            return True
        self._starts = {known: at for known, at in self._starts.items() if known < sequence}
        self._ids[start + accepted :] = correction
        # The newest token is fed with the next draft, which needs what follows it.
        await self._session.rewind(min(self._session.length, start + accepted, len(self._ids) - 1))
        return False
