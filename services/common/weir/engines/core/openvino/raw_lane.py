"""Sessions, scoring and guided generations: everything that runs on the raw model, in turns."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import llguidance

from weir.engines.core import messages as m
from weir.engines.core.backend import RequestFailed, Wake
from weir.engines.core.openvino.jobs import ExtendJob, GuidedJob, Job, ScoreJob
from weir.engines.core.openvino.raw_model import RawModel, RawSequence

# Guided generations at once; each holds a KV cache of its own, in f32. The others wait.
_MAX_GENERATIONS = 8


@dataclass(frozen=True, slots=True)
class RawParts:
    """What jobs need: the model, and llguidance's view of its vocabulary."""

    model: RawModel
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
    """A queue of jobs; each turn advances the first by one unit and puts it last.

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
        self._sessions: dict[int, RawSequence | None] = {}

    @property
    def generations(self) -> int:
        """Guided generations under way."""
        return sum(entry.request is not None for entry in self._entries)

    @property
    def waiting(self) -> int:
        """Guided generations that wait for a place."""
        return len(self._waiting)

    def load_now(self) -> RawParts:
        """Load the model on this thread."""
        self._parts = self._load()
        return self._parts

    def generate(self, request: m.Submit) -> None:
        """Queue a guided generation."""
        entry = _Entry(
            lambda parts: GuidedJob(request, parts.model, parts.guide, self._stop_ids),
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

    def call(self, call: m.Call) -> list[m.Event]:
        """Queue a call; a rewind is answered at once."""
        if isinstance(call, m.Score):
            score = call
            self._queue(
                _Entry(lambda parts: ScoreJob(score, parts.model), lambda error: error.for_call(score.call))
            )
            return []
        if call.session not in self._sessions:
            raise RequestFailed("INTERNAL", internal=f"no session {call.session}")
        if isinstance(call, m.Rewind):
            if sequence := self._sessions[call.session]:
                sequence.rewind(call.length)
            return [m.Done(call.call)]
        extend = call
        self._queue(
            _Entry(
                lambda parts: ExtendJob(extend, self._sequence(extend.session, parts)),
                lambda error: error.for_call(extend.call),
                session=extend.session,
            )
        )
        return []

    def has_work(self) -> bool:
        """Whether a job can advance, or must be told that the model cannot be loaded."""
        return bool(self._entries) and (self._parts is not None or self._failure is not None)

    def step(self) -> list[m.Event]:
        """Advance the first job by one unit."""
        entry = self._entries.popleft()
        try:
            if self._parts is None:
                raise self._failure or RequestFailed("MODEL_UNAVAILABLE")
            entry.job = entry.job or entry.make(self._parts)
            events = entry.job.advance()
        except RequestFailed as error:
            if entry.job is not None:
                entry.job.close()
            self._admit()
            return [entry.fail(error)]
        if entry.job.done:
            entry.job.close()
            self._admit()
        else:
            self._entries.append(entry)
        return events

    def _sequence(self, session: int, parts: RawParts) -> RawSequence:
        sequence = self._sessions[session] = self._sessions[session] or RawSequence(parts.model)
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
