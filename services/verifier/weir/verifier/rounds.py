"""One answer under verification: drafted tokens go in, what stands comes out, one forward pass a round."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from weir.engines.base import Candidate, Pass, Prediction, Session
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

    Attributes:
        tokens: the accepted drafts and then the verifier's own: one, none, or without drafts as many as were
            guessed and one more.
        accepted: drafts that stand.
        judged: drafts on which a verdict fell: the accepted and the first rejected, if there is one.
        draft_logprobs: the verifier's of every drafted token, ``-inf`` from the first that the constraint
            forbids, or that comes after the answer's end.
        fed: tokens fed in the pass.
        forward_s: seconds it took, as seen from here.
        cost: what it cost as the engine measured it, others' tokens in the same pass included.
    """

    tokens: tuple[Emitted, ...]
    accepted: int
    judged: int
    draft_logprobs: tuple[float, ...]
    fed: int
    forward_s: float
    cost: Pass

    @property
    def own(self) -> tuple[Emitted, ...]:
        """The verifier's correction or bonus token, or all that it wrote without drafts."""
        return self.tokens[self.accepted :]


@dataclass(frozen=True, slots=True)
class _Passed:
    """One forward pass: the session's length before it, and what it gave; the rest as in `Round`."""

    base: int
    predictions: Sequence[Prediction]
    fed: int
    forward_s: float
    cost: Pass

    def round(
        self, tokens: Sequence[Emitted], accepted: int, judged: int, draft_logprobs: Sequence[float]
    ) -> Round:
        """Return what was decided from it."""
        return Round(
            tuple(tokens), accepted, judged, tuple(draft_logprobs), self.fed, self.forward_s, self.cost
        )


class Verification:
    """The verifier's side of one answer.

    The last token of the sequence is kept back from the session, so that feeding it together with k drafts
    gives the predictions for all k and for one more.

    Args:
        session: empty.
        judge: decides on drafts, and what the verifier says itself.
        stop_ids: tokens that end the answer.
        masks: of the constraint, if there is one.
        top: candidates told with each token.
        stretch: after a rejection the verifier writes alone until a chunk begins with the very token that it
            would write itself. The drafter is asked as ever, and each chunk's first token is what it would
            write after the text so far: comparing that costs nothing, where a question of its own would cost
            a round trip. The rest of the chunk that agrees is judged in the same pass.
    """

    def __init__(
        self,
        session: Session,
        judge: Judge,
        stop_ids: frozenset[int],
        masks: TokenMasks | None,
        top: int = 1,
        *,
        stretch: bool = False,
    ) -> None:
        self._session = session
        self._judge = judge
        self._stop_ids = stop_ids
        self._masks = masks
        self._top = top
        self._stretch = stretch
        self._taken_over = False
        self._last: int | None = None
        self.ended = False

    @property
    def sampled(self) -> bool:
        """Whether the verifier's own tokens are drawn."""
        return self._judge.needs_logits

    async def prefill(self, prompt_ids: Sequence[int]) -> None:
        """Feed the prompt, which has at least one token."""
        *head, self._last = prompt_ids
        if head:
            await self._session.extend(head, last_only=True)

    async def round(self, drafts: Sequence[DraftToken], *, bonus: bool = True) -> Round:
        """Judge ``drafts``, which follow what was said so far, and go on with the verifier's own token.

        Args:
            drafts: may be empty: then this is `alone`.
            bonus: whether the verifier adds a token of its own where all drafts stand.
        """
        if not drafts:
            return await self.alone()
        candidates = self._until_stop(drafts)
        masks = self._masks.preview([draft.id for draft in candidates]) if self._masks else None
        allowed = candidates[: len(masks) - 1] if masks else candidates
        # With logits the last draft need not be fed to be judged; it is where the next round will need it.
        spared = not bonus and self._judge.needs_logits and len(allowed) == len(candidates)
        passed = await self._pass([draft.id for draft in (allowed[:-1] if spared else allowed)], masks)
        tokens, accepted = self._decide(candidates, allowed, passed.predictions, bonus=bonus)
        await self._settle(passed.base, tokens)
        known = [
            logprob_of(draft.id, after) for draft, after in zip(allowed, passed.predictions, strict=False)
        ]
        padded = known + [-math.inf] * (len(drafts) - len(known))
        return passed.round(tokens, accepted, min(accepted + 1, len(candidates)), padded)

    async def alone(self, guesses: Sequence[int] = ()) -> Round:
        """Go on without drafts.

        ``guesses`` are fed along with the last token. Each token is chosen as it would be in a pass of its
        own, from the same numbers; as long as it is the one that was guessed, the pass has its successor too.
        """
        hoped = list(itertools.takewhile(lambda token: token not in self._stop_ids, guesses))
        masks = self._masks.preview(hoped) if self._masks else None
        passed = await self._pass(hoped[: len(masks) - 1] if masks else hoped, masks)
        tokens: list[Emitted] = []
        for prediction, guess in itertools.zip_longest(passed.predictions, hoped):
            if prediction is None:
                break
            tokens.append(_chosen(self._judge.choose(prediction), prediction))
            if tokens[-1].id != guess:
                break
        await self._settle(passed.base, tokens)
        return passed.round(tokens, 0, 0, [])

    async def _pass(self, ids: Sequence[int], masks: Sequence[bytes] | None) -> _Passed:
        """Feed the last token said, and ``ids`` behind it."""
        if self._last is None:
            raise ValueError("prefill comes first")
        fed = [self._last, *ids]
        base, started = self._session.length, time.perf_counter()
        predictions = await self._session.extend(
            fed,
            top=self._top,
            logits=self._judge.needs_logits,
            masks=masks[: len(fed)] if masks else None,
        )
        forward_s = time.perf_counter() - started
        cost = self._session.last_pass or Pass(forward_s, len(fed), 1)
        return _Passed(base, predictions, len(fed), forward_s, cost)

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
        if self._taken_over:
            own = self._judge.choose(predictions[0])
            if own != candidates[0].id:
                return [_chosen(own, predictions[0])], 0
            self._taken_over = False
            accepted = 1 + standing(self._judge, allowed[1:], predictions[1:])
        else:
            accepted = standing(self._judge, allowed, predictions)
        tokens = [
            Emitted(draft.id, logprob_of(draft.id, prediction), True, prediction.top)
            for draft, prediction in zip(allowed[:accepted], predictions, strict=False)
        ]
        if own_token := self._own(candidates, predictions, accepted, bonus=bonus):
            tokens.append(own_token)
        return tokens, accepted

    def _own(
        self,
        candidates: Sequence[DraftToken],
        predictions: Sequence[Prediction],
        accepted: int,
        *,
        bonus: bool,
    ) -> Emitted | None:
        """Return the verifier's token behind the accepted drafts: a correction, a bonus, or none."""
        if accepted == len(candidates) and (not bonus or (accepted and candidates[-1].id in self._stop_ids)):
            return None
        here = predictions[accepted]
        self._taken_over = self._stretch and accepted < len(candidates)
        if accepted < len(candidates):
            # A draft that the constraint forbids is one of probability 0, and is replaced like any other.
            return _chosen(self._judge.replace(candidates[accepted], here), here)
        return _chosen(self._judge.choose(here), here)

    async def _settle(self, base: int, tokens: Sequence[Emitted]) -> None:
        """Keep in the session exactly what was said, but for its last token."""
        if not tokens:
            await self._session.rewind(base)
            return
        self._last = tokens[-1].id
        self.ended = tokens[-1].id in self._stop_ids
        kept = base + len(tokens)
        if self._session.length > kept:
            await self._session.rewind(kept)
        if self._masks:
            self._masks.advance([token.id for token in tokens])
            self.ended = self.ended or self._masks.complete


def _chosen(token: int, prediction: Prediction) -> Emitted:
    return Emitted(token, logprob_of(token, replace(prediction, next_logprob=None)), False, prediction.top)
