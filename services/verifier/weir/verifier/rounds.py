"""One answer under verification: drafted tokens go in, what stands comes out, one forward pass a round."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from weir.engines.base import Candidate, Prediction, Session
from weir.verifier.acceptance import DraftToken, Judge, logprob_of, standing
from weir.verifier.constraint import TokenMasks


@dataclass(frozen=True, slots=True)
class Emitted:
    """A token of the answer; ``drafted`` unless the verifier chose it itself."""

    id: int
    logprob: float
    drafted: bool
    top: tuple[Candidate, ...] = ()


@dataclass(frozen=True, slots=True)
class Round:
    """What one forward pass decided.

    ``tokens`` are the accepted drafts and then the verifier's own token, if there is one. ``draft_logprobs``
    are the verifier's of every drafted token, ``-inf`` from the first that the constraint forbids.
    """

    tokens: tuple[Emitted, ...]
    accepted: int
    draft_logprobs: tuple[float, ...]
    forward_s: float

    @property
    def own(self) -> Emitted | None:
        """The verifier's correction or bonus token."""
        return self.tokens[-1] if len(self.tokens) > self.accepted else None


class Verification:
    """The verifier's side of one answer.

    The last token of the sequence is kept back from the session, so that feeding it together with k drafts
    gives the predictions for all k and for one more.
    """

    def __init__(
        self, session: Session, judge: Judge, stop_ids: frozenset[int], masks: TokenMasks | None, top: int = 1
    ) -> None:
        self._session = session
        self._judge = judge
        self._stop_ids = stop_ids
        self._masks = masks
        self._top = top
        self._last: int | None = None
        self.ended = False

    async def prefill(self, prompt_ids: Sequence[int]) -> None:
        """Feed the prompt, which has at least one token."""
        *head, self._last = prompt_ids
        if head:
            await self._session.extend(head, last_only=True)

    async def round(self, drafts: Sequence[DraftToken], *, bonus: bool = True) -> Round:
        """Judge ``drafts``, which follow what was said so far, and go on with the verifier's own token.

        Args:
            drafts: may be empty: then this is one step of plain decoding.
            bonus: whether the verifier adds a token of its own where all drafts stand.
        """
        if self._last is None:
            raise ValueError("prefill comes first")
        candidates = self._until_stop(drafts)
        masks = self._masks.preview([draft.id for draft in candidates]) if self._masks else None
        allowed = candidates[: len(masks) - 1] if masks else candidates
        # Without a bonus the last draft need not be fed to be judged, and needs no rewind when it stands.
        fed = allowed if bonus or len(allowed) < len(candidates) else allowed[:-1]
        started = time.perf_counter()
        base = self._session.length
        predictions = await self._session.extend(
            [self._last, *(draft.id for draft in fed)],
            top=self._top,
            logits=self._judge.needs_logits or not bonus,
            masks=masks[: len(fed) + 1] if masks else None,
        )
        forward_s = time.perf_counter() - started
        tokens, accepted = self._decide(candidates, allowed, predictions, bonus=bonus)
        await self._settle(base, tokens)
        known = [logprob_of(draft.id, after) for draft, after in zip(allowed, predictions, strict=False)]
        padded = known + [-math.inf] * (len(drafts) - len(known))
        return Round(tuple(tokens), accepted, tuple(padded), forward_s)

    def _until_stop(self, drafts: Sequence[DraftToken]) -> list[DraftToken]:
        for index, draft in enumerate(drafts):
            if draft.id in self._stop_ids:
                return list(drafts[: index + 1])
        return list(drafts)

    def _decide(
        self,
        candidates: Sequence[DraftToken],
        allowed: Sequence[DraftToken],
        predictions: Sequence[Prediction],
        *,
        bonus: bool,
    ) -> tuple[list[Emitted], int]:
        accepted = standing(self._judge, allowed, predictions)
        tokens = [
            Emitted(draft.id, logprob_of(draft.id, prediction), True, prediction.top)
            for draft, prediction in zip(allowed[:accepted], predictions, strict=False)
        ]
        if accepted < len(allowed):
            here = predictions[accepted]
            tokens.append(_chosen(self._judge.replace(allowed[accepted], here), here))
        elif accepted < len(candidates) or (bonus and not self._ends(tokens)):
            # A draft that the constraint forbids has probability 0: rejecting it leaves p as it is.
            here = predictions[accepted]
            tokens.append(_chosen(self._judge.choose(here), here))
        return tokens, accepted

    async def _settle(self, base: int, tokens: Sequence[Emitted]) -> None:
        """Keep in the session exactly what was said, but for its last token."""
        if not tokens:
            await self._session.rewind(base)
            return
        self._last = tokens[-1].id
        self.ended = self._ends(tokens)
        kept = base + len(tokens)
        if self._session.length > kept:
            await self._session.rewind(kept)
        if self._masks:
            self._masks.advance([token.id for token in tokens])
            self.ended = self.ended or self._masks.complete

    def _ends(self, tokens: Sequence[Emitted]) -> bool:
        return bool(tokens) and tokens[-1].id in self._stop_ids


def _chosen(token: int, prediction: Prediction) -> Emitted:
    return Emitted(token, logprob_of(token, replace(prediction, next_logprob=None)), False, prediction.top)
