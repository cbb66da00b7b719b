"""Sessions, scoring and guided generations: everything that runs on the paged model, in shared passes."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import llguidance

from weir.engines.base import Pass
from weir.engines.core import messages as m
from weir.engines.core.backend import RequestFailed, Wake
from weir.engines.core.openvino import kv_pool
from weir.engines.core.openvino.jobs import DraftJob, ExtendJob, GuidedJob, Job, ScoreJob
from weir.engines.core.openvino.paged_model import Feed, Logits, PagedModel, reserve

# Guided generations at once. The others wait.
_MAX_GENERATIONS = 8
# Tokens of one pass: with more, each job would wait longer for its own than it gains by sharing.
_PASS_TOKENS = 256


@dataclass(frozen=True, slots=True)
class RawParts:
    """What jobs need: the model, and llguidance's view of its vocabulary."""

    model: PagedModel
    guide: llguidance.LLTokenizer


@dataclass(slots=True)
class _Entry:
    """Queued work; the job is made when its turn comes, for the model may still be loading."""

    make: Callable[[RawParts], Job]
    fail: Callable[[RequestFailed], m.Failed]
    request: int | None = None
    session: int | None = None
    job: Job | None = None


class RawLane:
    """A queue of jobs; each turn advances as many as one pass holds and puts them last.

    The model loads on first use, in a thread, so that streams of the batch go on meanwhile.
    """

    def __init__(
        self, load: Callable[[], RawParts], wake: Wake, stop_ids: frozenset[int], max_sessions: int
    ) -> None:
        self._load = load
        self._wake = wake
        self._loader: threading.Thread | None = None
        self._parts: RawParts | None = None
        self._failure: RequestFailed | None = None
        self._stop_ids = stop_ids
        self._max_sessions = max_sessions
        self._entries: deque[_Entry] = deque()
        self._waiting: deque[_Entry] = deque()
        self._sessions: dict[int, kv_pool.Sequence | None] = {}

    @property
    def generations(self) -> int:
        """Guided generations under way."""
        return sum(entry.request is not None for entry in self._entries)

    @property
    def waiting(self) -> int:
        """Guided generations that wait for a place."""
        return len(self._waiting)

    @property
    def cache_used(self) -> float:
        """Share of the KV cache that sessions and generations hold, 0 to 1."""
        return round(self._parts.model.cache_used, 2) if self._parts else 0.0

    def load_now(self) -> RawParts:
        """Load the model on this thread."""
        self._parts = self._load()
        return self._parts

    def generate(self, request: m.Submit) -> None:
        """Queue a guided generation."""
        entry = _Entry(
            lambda parts: GuidedJob(request, parts.model.sequence(), parts.guide, self._stop_ids),
            lambda error: error.for_request(request.id),
            request=request.id,
        )
        self._waiting.append(entry)
        self._admit()

    def abort(self, request: int) -> None:
        """Drop a guided generation."""
        self._drop(lambda entry: entry.request == request)
        self._admit()

    def open(self, session: int) -> None:
        """Create a session."""
        if len(self._sessions) >= self._max_sessions:
            raise RequestFailed("QUEUE_FULL", f"All {self._max_sessions} sessions are in use.")
        self._sessions[session] = None

    def close_session(self, session: int) -> None:
        """Free a session and drop its calls."""
        self._drop(lambda entry: entry.session == session)
        if sequence := self._sessions.pop(session, None):
            sequence.close()

    def call(self, call: m.Call) -> None:
        """Queue a call."""
        if isinstance(call, m.Score):
            score = call
            self._queue(
                _Entry(
                    lambda parts: ScoreJob(score, parts.model.sequence()),
                    lambda error: error.for_call(score.call),
                )
            )
            return
        if call.session not in self._sessions:
            raise RequestFailed("INTERNAL", internal=f"no session {call.session}")
        self._queue(
            _Entry(
                lambda parts: self._session_job(call, parts),
                lambda error: error.for_call(call.call),
                session=call.session,
            )
        )

    def has_work(self) -> bool:
        """Whether a job can advance, or must be told that the model cannot be loaded."""
        return bool(self._entries) and (self._parts is not None or self._failure is not None)

    def step(self) -> list[m.Event]:
        """Advance the first jobs by one unit each, in one pass."""
        if self._parts is None:
            return [self._entries.popleft().fail(self._failure or RequestFailed("MODEL_UNAVAILABLE"))]
        events: list[m.Event] = []
        turn = self._gather(self._parts, events)
        if turn:
            done = self._parts.model.forward([feed for _, _, feed in turn])
            cost = Pass(done.seconds, done.tokens, len(turn))
            for (entry, job, _), logits in zip(turn, done.logits, strict=True):
                events += self._advance(entry, job, logits, cost)
        self._admit()
        return events

    def _gather(self, parts: RawParts, events: list[m.Event]) -> list[tuple[_Entry, Job, Feed]]:
        """Take jobs from the queue while they fit one pass; what fails on the way is told in ``events``."""
        turn: list[tuple[_Entry, Job, Feed]] = []
        tokens = 0
        for _ in range(len(self._entries)):
            entry = self._entries.popleft()
            try:
                job = entry.job = entry.job or entry.make(parts)
                feed = job.offer()
                if turn and tokens + len(feed.ids) > _PASS_TOKENS:
                    self._entries.appendleft(entry)
                    break
                reserve(feed)
            except RequestFailed as error:
                events.append(self._failed(entry, error))
                continue
            tokens += len(feed.ids)
            turn.append((entry, job, feed))
        return turn

    def _advance(self, entry: _Entry, job: Job, logits: Logits, cost: Pass) -> list[m.Event]:
        try:
            events = job.take(logits, cost)
        except RequestFailed as error:
            return [self._failed(entry, error)]
        if job.done:
            job.close()
        else:
            self._entries.append(entry)
        return events

    @staticmethod
    def _failed(entry: _Entry, error: RequestFailed) -> m.Event:
        if entry.job is not None:
            entry.job.close()
        return entry.fail(error)

    def _session_job(self, call: m.Extend | m.Draft, parts: RawParts) -> Job:
        sequence = self._sequence(call.session, parts)
        if call.at >= 0:
            sequence.rewind(call.at)
        return DraftJob(call, sequence) if isinstance(call, m.Draft) else ExtendJob(call, sequence)

    def _sequence(self, session: int, parts: RawParts) -> kv_pool.Sequence:
        sequence = self._sessions[session] = self._sessions[session] or parts.model.sequence()
        return sequence

    def _admit(self) -> None:
        while self._waiting and self.generations < _MAX_GENERATIONS:
            self._queue(self._waiting.popleft())

    def _queue(self, entry: _Entry) -> None:
        self._entries.append(entry)
        if self._parts is None and self._loader is None:
            self._failure = None
            self._loader = threading.Thread(target=self._load_in_thread, name="raw-model-loader", daemon=True)
            self._loader.start()

    def _load_in_thread(self) -> None:
        try:
            self._parts = self._load()
        except RequestFailed as error:
            self._failure = error
        except Exception as error:
            self._failure = RequestFailed("MODEL_UNAVAILABLE", internal=f"{type(error).__name__}: {error}")
        self._loader = None
        self._wake()

    def _drop(self, matches: Callable[[_Entry], bool]) -> None:
        kept: deque[_Entry] = deque()
        for entry in self._entries:
            if not matches(entry):
                kept.append(entry)
            elif entry.job is not None:
                entry.job.close()
        self._entries = kept
        self._waiting = deque(entry for entry in self._waiting if not matches(entry))
