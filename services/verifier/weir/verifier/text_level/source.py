"""Another model's text as drafts: unit by unit, in the verifier's tokens, begun again where corrected."""

from __future__ import annotations

import codecs
import copy
import time
from collections.abc import Callable, Sequence

import structlog

from weir.engines.base import TextCodec
from weir.verifier.acceptance import DraftToken
from weir.verifier.drafts import Chunk
from weir.verifier.rounds import Emitted, Round
from weir.verifier.speculation.planner import Plan
from weir.verifier.text_level.agreement import Agreement
from weir.verifier.text_level.boundaries import Boundaries
from weir.verifier.text_level.retokenize import RECENT_TOKENS, Retokenizer
from weir.verifier.text_level.units import closing, in_any_piece, in_whole_units
from weir.verifier.text_level.writer import Writer

log = structlog.get_logger(__name__)

# Calls in a row of whose text nothing stood, before the worker is given up.
MAX_FRUITLESS_CALLS = 4


class TextDrafts:
    """One answer's drafts from a worker's text; the same to an answer as ``drafts.DraftStream``.

    The worker writes on while its text is judged. Where the verifier says something else the call is
    cancelled, and begun again behind what was said.

    Args:
        writer: of the worker.
        codec: the verifier's.
        retokenizer: over the same vocabulary.
        tokens: of a round, at most, to begin with; a unit that is judged whole may have more.
        whole_units: a unit stands or falls as a whole, and in place of one that falls the verifier writes its
            own to the end. Otherwise every token is judged for itself.
        json: the answer is JSON by its constraint.
        clock: seconds, monotonic.
    """

    level = "text"

    def __init__(
        self,
        writer: Writer,
        codec: TextCodec,
        retokenizer: Retokenizer,
        tokens: int,
        *,
        whole_units: bool,
        json: bool,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._writer = writer
        self._codec = codec
        self._retokenizer = retokenizer
        self._most = tokens
        self._whole_units = whole_units
        self._clock = clock
        self._agreement = Agreement(spelled_space=bool(getattr(codec, "spells_leading_space", False)))
        self._boundaries = Boundaries(json=json)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._recent: list[int] = []
        self._begun_at: str | None = None
        self._fruitless = 0
        self._taken_over: int | None = None
        self._chunks = 0
        self._closed = False

    @property
    def alive(self) -> bool:
        """Whether there is a drafter."""
        return not (self._closed or self._writer.failed or self._fruitless > MAX_FRUITLESS_CALLS)

    async def next(self) -> Chunk:
        """Return the next drafts, empty where the verifier is to go on alone for a token.

        Raises:
            WeirError: DEADLINE.
        """
        began = self._clock()
        tokens = await self._drafted() if self.alive and await self._writing() else ()
        if self.alive and not (tokens or self._agreement.agrees) and await self._writing():
            tokens = await self._drafted()
        waited = self._clock() - began
        if not tokens:
            return Chunk(wait_s=waited)
        self._chunks += 1
        return Chunk(self._chunks - 1, tokens, method="model", draft_s=waited, wait_s=waited)

    def judged(self, chunk: Chunk, verdict: Round) -> None:
        """Take what a round made of ``chunk``."""
        self._take(verdict.tokens[: verdict.accepted])
        fell = verdict.accepted < len(chunk.tokens)
        if self._whole_units and fell:
            self._agreement.agrees = False
            self._taken_over = self._boundaries.taken
        self._take(verdict.tokens[verdict.accepted :])
        if verdict.accepted:
            self._fruitless = 0

    async def ask(self, plan: Plan) -> None:
        """Take the number of tokens that a round should have."""
        self._most = plan.tokens or self._most

    async def rest(self) -> None:
        """Cancel the call until drafts are wanted again."""
        self._agreement.agrees = False
        await self._writer.stop()

    async def aclose(self) -> None:
        """Cancel the call."""
        self._closed = True
        await self._writer.stop()

    def _take(self, tokens: Sequence[Emitted]) -> None:
        said = self._agreement.say(b"".join(self._codec.token_bytes(token.id) for token in tokens))
        self._recent = [*self._recent, *(token.id for token in tokens)][-RECENT_TOKENS:]
        ends = self._boundaries.feed(self._decoder.decode(said))
        if self._taken_over is not None and any(end > self._taken_over for end in ends):
            self._taken_over = None

    async def _writing(self) -> bool:
        """Return whether to wait for the worker's text; where it has to, have the worker begin again."""
        if self._taken_over is not None:
            await self.rest()
            return False
        if self._agreement.agrees and self._begun_at is not None:
            if not self._writer.ended or self._cut():
                return True
            if not (self._agreement.ahead or self._writer.cut_short):  # the worker wrote an end
                return False
        said = self._agreement.text
        if said is None or said == self._begun_at or (said and said.isspace()):
            await self._writer.stop()
            return False
        self._begun_at = said
        self._fruitless += 1
        if not self.alive:
            await self._writer.stop()
            return False
        await self._writer.start(self._agreement.restart(said))
        # Judged one by one, the verifier's next token is as good as a draft: it comes while the worker reads.
        return self._whole_units and self.alive

    async def _drafted(self) -> tuple[DraftToken, ...]:
        tokens = self._cut()
        while not tokens and self._agreement.agrees and not self._writer.ended:
            self._agreement.propose(await self._writer.read())
            tokens = self._cut()
        return tokens

    def _cut(self) -> tuple[DraftToken, ...]:
        if not self._agreement.agrees:
            return ()
        final = self._writer.ended and not self._writer.cut_short
        pending = bytes(self._agreement.pending)
        found = self._retokenizer.tokens(pending, self._recent, final=final)
        closes = closing(found, self._unit_ends(pending), final=final)
        cut = in_whole_units if self._whole_units else in_any_piece
        return cut(found, closes, self._most)

    def _unit_ends(self, pending: bytes) -> list[int]:
        """Return the units' ends in bytes of ``pending``, which may begin within a character."""
        begun = self._decoder.getstate()[0]
        text = (begun + pending).decode(errors="replace")
        scanner = copy.deepcopy(self._boundaries)
        before = scanner.taken
        return [len(text[: end - before].encode()) - len(begun) for end in scanner.feed(text) if end > before]
