"""Work on raw sequences, in units short enough to alternate with decoding steps."""

from __future__ import annotations

from collections import deque
from typing import Protocol

import llguidance

from weir.engines.core import messages as m
from weir.engines.core.backend import RequestFailed
from weir.engines.core.openvino.raw_model import RawModel, RawSequence
from weir.engines.core.openvino.sampling import Sampler, Vector, apply_mask, chunks, row
from weir.engines.text.constraints import first_line, grammar, limits

# Tokens of one unit: about 0.1 s on two cores, and 6 MB of logits at a 49k vocabulary.
UNIT = 32


class Job(Protocol):
    """Something that advances a unit at a time."""

    done: bool

    def advance(self) -> list[m.Event]:
        """Do one unit of work."""
        ...

    def close(self) -> None:
        """Free what the job alone holds."""
        ...


class ExtendJob:
    """Feeds a session, and predicts after each token or after the last."""

    def __init__(self, call: m.Extend, sequence: RawSequence) -> None:
        self._call = call
        self._sequence = sequence
        self._at = 0
        self._rows: list[m.Row] = []
        self.done = not call.ids

    def advance(self) -> list[m.Event]:
        """Feed one chunk; answer after the last."""
        call, start = self._call, self._at
        piece = call.ids[start : start + UNIT]
        self._at = start + len(piece)
        last = self._at == len(call.ids)
        wanted = ([len(piece) - 1] if last else []) if call.last_only else range(len(piece))
        logits = self._sequence.forward(piece, wanted or [0])
        for line, position in enumerate(wanted):
            self._rows.append(self._row(logits[line], start + position))
        self.done = last
        return [m.Extended(call.call, self._rows)] if last else []

    def _row(self, logits: Vector, index: int) -> m.Row:
        call = self._call
        if call.masks is not None:
            logits = apply_mask(logits, call.masks[index])
        following = call.ids[index + 1] if index + 1 < len(call.ids) else None
        return row(logits, top=max(1, call.top), following=following, keep=call.logits)

    def close(self) -> None:
        """Leave the session open."""


class ScoreJob:
    """Log-probabilities of a continuation, on a sequence of its own."""

    def __init__(self, call: m.Score, model: RawModel) -> None:
        self._call = call
        self._sequence = RawSequence(model)
        self._pieces = deque(chunks([*call.prompt, *call.continuation], UNIT))
        self._at = 0
        self._rows: list[m.Row] = []
        self.done = False

    def advance(self) -> list[m.Event]:
        """Feed one chunk; answer after the last."""
        call, piece = self._call, self._pieces.popleft()
        first = len(call.prompt) - 1
        known = range(first, first + len(call.continuation))
        wanted = [at for at in range(len(piece)) if self._at + at in known]
        logits = self._sequence.forward(piece, wanted or [0])
        for line, position in enumerate(wanted):
            following = call.continuation[self._at + position - first]
            self._rows.append(row(logits[line], top=call.top, following=following, keep=False))
        self._at += len(piece)
        self.done = not self._pieces
        return [m.Extended(call.call, self._rows)] if self.done else []

    def close(self) -> None:
        """Free the sequence."""
        self._sequence.close()


class GuidedJob:
    """A generation token by token: under a constraint, or with the alternatives of each token."""

    def __init__(
        self, request: m.Submit, model: RawModel, guide: llguidance.LLTokenizer, stop_ids: frozenset[int]
    ) -> None:
        self._request = request
        self._matcher = _matcher(request, guide)
        self._sequence = RawSequence(model)
        self._prompt = deque(chunks(request.prompt, UNIT))
        self._stop_ids = stop_ids
        self._sampler = Sampler.of(request)
        self._left = request.max_tokens
        self._token = -1
        self.done = False

    def advance(self) -> list[m.Event]:
        """Feed one chunk of the prompt, or decode one token."""
        piece = self._prompt.popleft() if self._prompt else [self._token]
        logits = self._sequence.forward(piece, [len(piece) - 1])[0]
        if self._prompt:
            return []
        return [self._decode(logits)]

    def _decode(self, logits: Vector) -> m.Event:
        request = self._request
        if self._matcher is not None:
            logits = apply_mask(logits, self._matcher.compute_bitmask())
            self._require_sound()
        token = self._sampler.draw(logits)
        if token in self._stop_ids:
            self.done = True
            return m.Output(request.id, finish="stop")
        if self._matcher is not None:
            self._matcher.consume_token(token)
            self._require_sound()
        self._token, self._left = token, self._left - 1
        complete = self._matcher is not None and self._matcher.is_stopped()
        finish = "stop" if complete else "" if self._left else "length"
        self.done = bool(finish)
        line = row(logits, top=request.top_logprobs, following=token, keep=False)
        return m.Output(
            request.id,
            [token],
            [line.next_logprob or 0.0] if request.logprobs or request.top_logprobs else [],
            [line] if request.top_logprobs else [],
            finish,
        )

    def _require_sound(self) -> None:
        if self._matcher is not None and self._matcher.is_error():
            raise _refused(self._request, self._matcher)

    def close(self) -> None:
        """Free the sequence."""
        self._sequence.close()


def _matcher(request: m.Submit, guide: llguidance.LLTokenizer) -> llguidance.LLMatcher | None:
    if not request.constraint_kind:
        return None
    text = grammar(request.constraint_kind, request.constraint_value)
    matcher = llguidance.LLMatcher(guide, text, log_level=0, limits=limits())
    if matcher.is_error():
        raise _refused(request, matcher)
    return matcher


def _refused(request: m.Submit, matcher: llguidance.LLMatcher) -> RequestFailed:
    hint = "The output constraint is too complex to be followed, or cannot be met; simplify it."
    field = f"prompt.output.{request.constraint_kind}"
    reason = first_line(matcher.get_error())
    return RequestFailed("INVALID_CONSTRAINT", hint, internal=reason, fields={field: reason})
