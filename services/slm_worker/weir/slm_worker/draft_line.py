"""The sequence that a drafter and its verifier agree on: chunks are added, verdicts settle them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from weir.common.errors import ErrorCode, WeirError
from weir.engines.base import TokenInfo
from weir.engines.text.lookup import Proposal


class Method(StrEnum):
    """Where drafted tokens come from."""

    MODEL = "model"
    LOOKUP = "lookup"


@dataclass(frozen=True, slots=True)
class Verdict:
    """How much of chunk ``sequence`` stands, the tokens that follow it, and the sizes wanted from now on.

    ``next_tokens`` and ``chunks_ahead`` are 0 where they stay as they are.
    """

    sequence: int
    accepted: int
    correction: tuple[int, ...] = ()
    next_tokens: int = 0
    chunks_ahead: int = 0


@dataclass(slots=True, eq=False)
class DraftedChunk:
    """Tokens that follow the first ``start`` of the sequence.

    ``proposal`` is what could be copied there, whether or not it was; ``seconds`` is what drafting took.
    ``number`` and ``sent_at`` are set once the chunk is sent.
    """

    start: int
    tokens: list[TokenInfo]
    method: Method = Method.MODEL
    seconds: float = 0.0
    proposal: Proposal | None = None
    number: int | None = None
    sent_at: float = 0.0

    @property
    def end(self) -> int:
        """Length of the sequence up to and with the chunk."""
        return self.start + len(self.tokens)


@dataclass(frozen=True, slots=True)
class Settlement:
    """What a verdict did: ``kept`` tokens at the head are as before, ``voided`` chunks are gone.

    ``length`` is where the verifier's own text ends by now.
    """

    chunk: DraftedChunk
    accepted: int
    length: int
    kept: int
    voided: int


class DraftLine:
    """The tokens given and drafted, and the chunks among them that have no verdict yet.

    The rule is that of ``weir.verifier.drafts``; M is the largest ``chunks_ahead`` told before a verdict.

    1. Where all of chunk s is accepted and the correction is how the tokens drafted after s begin, the later
       chunks stand and numbers go on by one. A chunk that the correction spells out needs no verdict; where
       it spells out a part, ``accepted`` of that chunk's verdict counts the part too.
    2. In every other case the later chunks are void; what is drafted anew follows the correction and is
       numbered ``s + M`` or higher, above all that was sent.

    A verdict is due on the first chunk that the verifier has not said whole, as long as it was sent.

    Args:
        prompt_ids: the templated prompt.
        stop_ids: tokens that end an answer.
        limit: length, in tokens, that the sequence may reach.
        chunks_ahead: chunks that may be without a verdict.
    """

    def __init__(
        self, prompt_ids: Sequence[int], stop_ids: frozenset[int], limit: int, chunks_ahead: int = 1
    ) -> None:
        self.ids = list(prompt_ids)
        self.limit = limit
        self.chunks_ahead = self._most_ahead = chunks_ahead
        self.stop_ids = stop_ids
        self._prompt_length = self._settled = len(self.ids)
        self._chunks: list[DraftedChunk] = []
        self._next = 0

    @property
    def full(self) -> bool:
        """Whether the sequence has reached its limit."""
        return len(self.ids) >= self.limit

    @property
    def ended(self) -> bool:
        """Whether nothing more can be drafted unless a verdict takes something back."""
        return self.full or (len(self.ids) > self._prompt_length and self.ids[-1] in self.stop_ids)

    @property
    def open_chunks(self) -> int:
        """Chunks, sent or about to be, that need a verdict."""
        return sum(chunk.end > self._settled or not chunk.tokens for chunk in self._chunks)

    def add(self, chunk: DraftedChunk) -> None:
        """Append a chunk, which starts where the sequence ends."""
        self._chunks.append(chunk)
        self.ids += [token.id for token in chunk.tokens]

    def holds(self, chunk: DraftedChunk) -> bool:
        """Whether no verdict has voided the chunk."""
        return any(chunk is known for known in self._chunks)

    def number(self, chunk: DraftedChunk) -> None:
        """Number the chunk, which is the next to be sent."""
        chunk.number, self._next = self._next, self._next + 1

    def settle(self, verdict: Verdict) -> Settlement:
        """Apply a verdict.

        Raises:
            WeirError: INVALID_REQUEST for a chunk that is not open or whose turn it is not, more accepted
                than it has, or a verdict that takes back what an earlier one said.
        """
        place = self._place(verdict)
        chunk = self._chunks[place]
        if verdict.accepted > len(chunk.tokens):
            raise _refused("accepted", f"chunk {verdict.sequence} has {len(chunk.tokens)} tokens")
        at = chunk.start + verdict.accepted
        kept = at + _common(self.ids[at:], verdict.correction)
        stands = at == chunk.end and kept == at + len(verdict.correction)
        if not stands and kept < self._settled:
            raise _refused("correction", "takes back what an earlier verdict said")
        later = self._chunks[place + 1 :]
        if not stands:
            self.ids[at:] = verdict.correction
            self._next = max(self._next, verdict.sequence + self._most_ahead)
        self._settled = max(self._settled, at + len(verdict.correction))
        self._chunks = later if stands else []
        self._tell(verdict.chunks_ahead)
        voided = 0 if stands else sum(known.end > kept or not known.tokens for known in later)
        return Settlement(chunk, verdict.accepted, self._settled, len(self.ids) if stands else kept, voided)

    def _tell(self, chunks_ahead: int) -> None:
        self.chunks_ahead = chunks_ahead or self.chunks_ahead
        self._most_ahead = max(self._most_ahead, self.chunks_ahead)

    def _place(self, verdict: Verdict) -> int:
        for place, chunk in enumerate(self._chunks):
            if chunk.number == verdict.sequence:
                return place
            if chunk.end > self._settled or not chunk.tokens:
                break
        raise _refused("sequence", f"no verdict on chunk {verdict.sequence} is due")


def _common(drafted: Sequence[int], correction: Sequence[int]) -> int:
    """Return how many leading tokens are the same."""
    for count, (mine, given) in enumerate(zip(drafted, correction, strict=False)):
        if mine != given:
            return count
    return min(len(drafted), len(correction))


def _refused(field: str, problem: str) -> WeirError:
    path = f"ack.{field}"
    return WeirError(ErrorCode.INVALID_REQUEST, f"{path}: {problem}.", fields={path: problem})
