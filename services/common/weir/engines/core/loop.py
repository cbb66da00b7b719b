"""The core's loop: take what has come, do one unit of work, send what it gave in one frame."""

from __future__ import annotations

from collections.abc import Sequence

from weir.engines.core import messages as m
from weir.engines.core.backend import CoreBackend, RequestFailed
from weir.engines.core.channel import Channel
from weir.engines.core.pacing import Pacer


class CoreLoop:
    """Drives a backend until the server closes the socket."""

    def __init__(self, backend: CoreBackend, channel: Channel) -> None:
        self._backend = backend
        self._channel = channel
        self._pacer = Pacer()
        self._events: list[m.Event] = []
        self._sent = m.Stats()

    def run(self) -> None:
        """Serve until the other end is gone."""
        while not self._channel.closed:
            timeout_s = 0.0 if self._backend.has_work() else self._pacer.wait_s
            for payload in self._channel.receive(timeout_s):
                self._handle(m.decode_to_core(payload))
            if self._channel.closed:
                return
            self._events += self._step()
            self._flush()

    def _step(self) -> Sequence[m.Event]:
        return self._backend.step() if self._backend.has_work() else ()

    def _flush(self) -> None:
        stats = self._backend.stats()
        changed = stats != self._sent
        due = self._pacer.take(self._events)
        self._events = []
        if due or changed:
            due += self._pacer.release()
            self._channel.send(m.encode(m.Frame(due, stats if changed else None)))
            self._sent = stats

    def _handle(self, message: m.ToCore) -> None:
        match message:
            case m.Submit():
                self._submit(message)
            case m.Abort():
                self._pacer.end(message.id)
                self._backend.abort(message.id)
            case m.OpenSession():
                self._backend.open_session(message.session)
            case m.CloseSession():
                self._backend.close_session(message.session)
            case m.Extend() | m.Draft() | m.Score():
                self._call(message)
            case m.Start():
                raise RuntimeError("the core has started already")

    def _submit(self, request: m.Submit) -> None:
        self._pacer.begin(request)
        try:
            self._backend.submit(request)
        except RequestFailed as error:
            self._pacer.end(request.id)
            self._events.append(error.for_request(request.id))

    def _call(self, call: m.Call) -> None:
        try:
            self._backend.call(call)
        except RequestFailed as error:
            self._events.append(error.for_call(call.call))
