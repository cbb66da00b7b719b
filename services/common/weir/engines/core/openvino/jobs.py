"""Work on raw sequences, in units short enough to alternate with decoding steps."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Protocol

import llguidance

from weir.engines.base import Pass
from weir.engines.core import messages as m
from weir.engines.core.backend import RequestFailed
from weir.engines.core.openvino.kv_pool import Sequence as KvSequence
from weir.engines.core.openvino.paged_model import Feed, Logits
from weir.engines.core.openvino.sampling import DraftSampler, Sampler, Vector, apply_mask, chunks, row
from weir.engines.text.constraints import first_line, grammar, limits

# Tokens that one job may bring to a pass: about 0.1 s on two cores.
UNIT = 32
_NO_PASS = Pass(0.0, 0, 0)


class Job(Protocol):
    """Something that advances a unit at a time, several of them in one pass."""

    done: bool

    def offer(self) -> Feed:
        """Return what the next pass is to be fed."""
        ...

    def take(self, logits: Logits, cost: Pass) -> list[m.Event]:
        """Go on with what the pass gave; ``logits`` are valid only now."""
        ...

    def close(self) -> None:
        """Free what the job alone holds."""
        ...


class ExtendJob:
    """Feeds a session, and predicts after each token or after the last."""

    def __init__(self, call: m.Extend, sequence: KvSequence) -> None:
        self._call = call
        self._sequence = sequence
        self._at = 0
        self._rows: list[m.Row] = []
        self._cost = _NO_PASS
        self.done = not call.ids

    def offer(self) -> Feed:
        """Feed one chunk."""
        piece = self._call.ids[self._at : self._at + UNIT]
        return Feed(self._sequence, piece, self._wanted(len(piece)), exact=True)

    def take(self, logits: Logits, cost: Pass) -> list[m.Event]:
        """Answer after the last chunk."""
        call, start = self._call, self._at
        count = min(UNIT, len(call.ids) - start)
        for line, position in enumerate(self._wanted(count)):
            self._rows.append(self._row(logits[line], start + position))
        self._at += count
        self._cost = self._cost.then(cost)
        self.done = self._at == len(call.ids)
        return [_extended(call.call, self._rows, self._cost)] if self.done else []

    def _wanted(self, count: int) -> Sequence[int]:
        if not self._call.last_only:
            return range(count)
        return [count - 1] if self._at + count == len(self._call.ids) else []

    def _row(self, logits: Vector, index: int) -> m.Row:
        call = self._call
        if call.masks is not None:
            logits = apply_mask(logits, call.masks[index])
        following = call.ids[index + 1] if index + 1 < len(call.ids) else None
        return row(logits, top=max(1, call.top), following=following, keep=call.logits)

    def close(self) -> None:
        """Leave the session open."""


class DraftJob:
    """Feeds a session, then decodes token after token behind it."""

    def __init__(self, call: m.Draft, sequence: KvSequence) -> None:
        self._call = call
        self._sequence = sequence
        self._pieces = deque(chunks(call.ids, UNIT))
        self._drafter = DraftSampler.of(call)
        self._stop_ids = frozenset(call.stop_ids)
        self._drafted: list[int] = []
        self._rows: list[m.Row] = []
        self._cost = _NO_PASS
        self.done = False

    def offer(self) -> Feed:
        """Feed one chunk, or the token drafted last."""
        piece = self._pieces[0] if self._pieces else self._drafted[-1:]
        return Feed(self._sequence, piece, [len(piece) - 1] if len(self._pieces) <= 1 else [], exact=False)

    def take(self, logits: Logits, cost: Pass) -> list[m.Event]:
        """Draft one token; answer after the last."""
        self._cost = self._cost.then(cost)
        if self._pieces:
            self._pieces.popleft()
        if self._pieces:
            return []
        drafted = self._drafter.draw(logits[0])
        if drafted is not None:
            token, line = drafted
            self._drafted.append(token)
            self._rows.append(line)
        ended = drafted is None or drafted[0] in self._stop_ids
        self.done = ended or len(self._drafted) == self._call.count
        return [self._answer()] if self.done else []

    def _answer(self) -> m.Event:
        return _extended(self._call.call, self._rows, self._cost, self._drafted, self._sequence.length)

    def close(self) -> None:
        """Leave the session open."""


class ScoreJob:
    """Log-probabilities of a continuation, on a sequence of its own."""

    def __init__(self, call: m.Score, sequence: KvSequence) -> None:
        self._call = call
        self._sequence = sequence
        self._pieces = deque(chunks([*call.prompt, *call.continuation], UNIT))
        self._at = 0
        self._rows: list[m.Row] = []
        self._cost = _NO_PASS
        self.done = False

    def offer(self) -> Feed:
        """Feed one chunk."""
        return Feed(self._sequence, self._pieces[0], self._wanted(), exact=True)

    def take(self, logits: Logits, cost: Pass) -> list[m.Event]:
        """Answer after the last chunk."""
        call, first = self._call, len(self._call.prompt) - 1
        for line, position in enumerate(self._wanted()):
            following = call.continuation[self._at + position - first]
            self._rows.append(row(logits[line], top=call.top, following=following, keep=False))
        self._at += len(self._pieces.popleft())
        self._cost = self._cost.then(cost)
        self.done = not self._pieces
        return [_extended(call.call, self._rows, self._cost)] if self.done else []

    def _wanted(self) -> list[int]:
        first = len(self._call.prompt) - 1
        known = range(first, first + len(self._call.continuation))
        return [at for at in range(len(self._pieces[0])) if self._at + at in known]

    def close(self) -> None:
        """Free the sequence."""
        self._sequence.close()


class GuidedJob:
    """A generation token by token: under a constraint, or with the alternatives of each token."""

    def __init__(
        self,
        request: m.Submit,
        sequence: KvSequence,
        guide: llguidance.LLTokenizer,
        stop_ids: frozenset[int],
    ) -> None:
        self._request = request
        self._matcher = _matcher(request, guide)
        self._sequence = sequence
        self._prompt = deque(chunks(request.prompt, UNIT))
        self._stop_ids = stop_ids
        self._sampler = Sampler.of(request)
        self._left = request.max_tokens
        self._token = -1
        self.done = False

    def offer(self) -> Feed:
        """Feed one chunk of the prompt, or the token decoded last."""
        piece = self._prompt[0] if self._prompt else [self._token]
        return Feed(self._sequence, piece, [len(piece) - 1] if len(self._prompt) <= 1 else [], exact=True)

    def take(self, logits: Logits, cost: Pass) -> list[m.Event]:
        """Decode one token once the prompt is fed."""
        del cost
        if self._prompt:
            self._prompt.popleft()
        return [] if self._prompt else [self._decode(logits[0])]

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


def _extended(
    call: int, rows: list[m.Row], cost: Pass, drafted: Sequence[int] = (), length: int = 0
) -> m.Extended:
    return m.Extended(call, rows, list(drafted), length, cost.seconds, cost.tokens, cost.sequences)


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
