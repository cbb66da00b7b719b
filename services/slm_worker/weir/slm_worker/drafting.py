"""Drafting for a verifier: chunk after chunk, from the model or copied, along the line of its verdicts."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from weir.engines.base import FinishReason, Sampling, Session, TokenInfo
from weir.engines.text.lookup import NgramIndex, Proposal
from weir.slm_worker.choice import Choice
from weir.slm_worker.draft_line import DraftedChunk, DraftLine, Method, Settlement, Verdict

# More than this, as a prompt, is fed before the draft, whose time then tells what a step of it takes.
_FEW = 8
# Weyl increment of SplitMix64: seeds of neighboring positions have nothing in common.
_GOLDEN = 0x9E3779B97F4A7C15


class Drafter:
    """Drafts the chunks of one stream. Nothing that a verdict left standing is fed or looked up again.

    A copied token has no probability: it is proposed for certain, and its ``top`` is empty. Speculative
    sampling stays exact with that: a verifier that knows no q takes the proposal as the one point of q,
    accepts x with probability p(x), and draws from p without x otherwise. An output constraint is left to
    the verifier, which masks what it forbids.

    Args:
        line: the sequence, with the prompt.
        sampling: temperature, top_p, top_k and seed are read.
        chunk_tokens: tokens of a chunk, until a verdict asks for others. What is asked for after a copy that
            stood whole is meant for another: a chunk of the model's, which costs a step a token, grows no
            longer by it.
        session: of the model, empty; ``None`` drafts by copying alone.
        index: what to copy from; ``None`` drafts by the model alone. It may hold the prompt already.
        min_confidence: a chunk of the model's ends before a token that it gives less.
        seen: what the worker's streams have seen of copies and of the model.
        clock: seconds.
    """

    def __init__(
        self,
        line: DraftLine,
        sampling: Sampling,
        chunk_tokens: int,
        *,
        session: Session | None = None,
        index: NgramIndex | None = None,
        min_confidence: float = 0.0,
        seen: Choice | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.line = line
        self.drafted = 0
        self.decoded = 0
        self.accepted = 0
        self._sampling, self._min_confidence = sampling, min_confidence
        self._copied_tokens = self._model_tokens = chunk_tokens
        self._session, self._index, self._clock = session, index, clock
        self._choice = Choice(seen)
        # So many tokens at the head of the session are those of the line.
        self._fed = 0
        self._dry = False
        self._last_verdict: float | None = None

    @property
    def done(self) -> bool:
        """Whether the end of the answer is drafted and no verdict is due."""
        return self.line.ended and not self.line.open_chunks

    @property
    def may_draft(self) -> bool:
        """Whether another chunk is wanted and can be had; a chunk cut short is followed by none."""
        open_chunks = self.line.open_chunks
        room = open_chunks < self.line.chunks_ahead and not self.line.ended
        return room and not (self._dry and open_chunks)

    @property
    def finish_reason(self) -> FinishReason:
        """Why the draft ended, as far as it has."""
        return FinishReason.LENGTH if self.line.full else FinishReason.STOP

    async def draft(self) -> DraftedChunk | None:
        """Draft a chunk, shorter than asked for where the answer ends or the model is unsure.

        Without a token the chunk is empty, or ``None`` where others still wait for their verdict.
        """
        line = self.line
        room = line.limit - len(line.ids)
        count = min(self._model_tokens, room)
        method, seconds = Method.LOOKUP, 0.0
        proposal = self._look_up(min(self._copied_tokens, room))
        if self._session is None or (proposal and self._copies(proposal, count)):
            tokens = [TokenInfo(token) for token in proposal.ids] if proposal else []
        else:
            method = Method.MODEL
            tokens, seconds = await self._decode(self._session, count)
        self._dry = len(tokens) < count
        self.drafted += len(tokens)
        if not tokens and line.open_chunks:
            return None
        chunk = DraftedChunk(len(line.ids), tokens, method, seconds, proposal)
        line.add(chunk)
        return chunk

    def send(self, chunk: DraftedChunk) -> None:
        """Number the chunk as the next that goes out."""
        self.line.number(chunk)
        chunk.sent_at = self._clock()

    def settle(self, verdict: Verdict, arrived: float) -> Settlement:
        """Apply a verdict that came at ``arrived`` of the clock. Raises WeirError INVALID_REQUEST."""
        settlement = self.line.settle(verdict)
        self.accepted += settlement.accepted
        self._size(settlement, verdict.next_tokens)
        self._dry = False
        self._fed = min(self._fed, settlement.kept)
        if self._index is not None:
            self._index.truncate(settlement.kept)
        self._learn(settlement, arrived)
        return settlement

    def _size(self, settlement: Settlement, wanted: int) -> None:
        if wanted:
            chunk = settlement.chunk
            copied = chunk.method is Method.LOOKUP and 0 < len(chunk.tokens) == settlement.accepted
            self._copied_tokens = wanted
            self._model_tokens = min(self._model_tokens, wanted) if copied else wanted

    def _look_up(self, count: int) -> Proposal | None:
        if self._index is None:
            return None
        self._index.extend(self.line.ids[len(self._index) :])
        return self._index.propose(count, self.line.stop_ids)

    def _copies(self, proposal: Proposal, count: int) -> bool:
        ahead = self.line.chunks_ahead > 1
        return self._choice.lookup_pays(proposal.ngram, len(proposal.ids), count, ahead=ahead)

    async def _decode(self, session: Session, count: int) -> tuple[list[TokenInfo], float]:
        """Return tokens of the model, and the seconds that they took; reading what is new is not counted."""
        ids = self.line.ids
        # The newest token is fed with the draft, which needs what follows it.
        known = min(self._fed, session.length, len(ids) - 1)
        if known < session.length:
            await session.rewind(known)
        if len(ids) - known > _FEW:
            await session.extend(ids[known:-1], last_only=True)
            known = len(ids) - 1
        started = self._clock()
        tokens = await session.draft(
            ids[known:],
            count,
            sampling=self._seeded(len(ids)),
            stop_ids=self.line.stop_ids,
            min_confidence=self._min_confidence,
        )
        seconds = self._clock() - started
        self._fed = session.length
        self.decoded += len(tokens)
        if tokens:
            self._choice.step_s.add(seconds / len(tokens))
        return tokens, seconds

    def _seeded(self, length: int) -> Sampling:
        """Return the sampling with a seed of the position's own; the same draws at each would be no draws."""
        seed = self._sampling.seed
        return (
            self._sampling
            if seed is None
            else replace(self._sampling, seed=(seed + length * _GOLDEN) % 2**64)
        )

    def _learn(self, settlement: Settlement, arrived: float) -> None:
        chunk, last = settlement.chunk, self._last_verdict
        if chunk.method is Method.MODEL and chunk.tokens:
            self._choice.model_judged(settlement.accepted, len(chunk.tokens))
        if proposal := chunk.proposal:
            said = self.line.ids[chunk.start : settlement.length]
            self._choice.lookup_compared(proposal.ngram, proposal.ids, said)
        if last is not None:  # the first verdict also waited for the verifier to read the prompt
            self._choice.wait_s.add(arrived - max(last, chunk.sent_at))
        self._last_verdict = arrived
