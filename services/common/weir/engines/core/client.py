"""The server's end of an engine core: requests, calls, load and health across crashes and restarts."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any, Final

import msgspec
import structlog

from weir.common.errors import ErrorCode, WeirError
from weir.engines.base import Health, Load
from weir.engines.core import messages as m
from weir.engines.core.process import CoreProcess
from weir.engines.core.streams import OutputStream

log = structlog.get_logger(__name__)

_BACKOFF_S = (0.0, 0.2, 0.5, 1.0, 2.0)
# A core that lived so long had started well: its end is no part of a row of failures.
_STEADY_S = 30.0


def _crashed() -> WeirError:
    return WeirError(ErrorCode.ENGINE_CRASHED, internal="the engine core ended")


def to_error(failed: m.Failed) -> WeirError:
    """Return the error that the core reports."""
    known = failed.code in ErrorCode.__members__
    code = ErrorCode(failed.code) if known else ErrorCode.INTERNAL
    return WeirError(code, failed.hint, internal=failed.internal, fields=failed.fields)


def _not_loaded(answer: m.ToServer | None) -> WeirError:
    if isinstance(answer, m.Failed):
        return to_error(answer)
    hint = "The engine ended while it loaded the model; see the log for the reason."
    return WeirError(ErrorCode.MODEL_UNAVAILABLE, hint)


class CoreClient:
    """Starts a core process, talks to it, and restarts it when it dies.

    Args:
        start: what the core loads.
        ready_timeout_s: longest time that loading and warm-up may take.
        restarts: quick failures in a row after which health is FAILED.
    """

    def __init__(self, start: m.Start, *, ready_timeout_s: float = 300.0, restarts: int = 5) -> None:
        self._start: Final = start
        self._ready_timeout_s = ready_timeout_s
        self._restarts = restarts
        self._process: CoreProcess | None = None
        self._streams: dict[int, OutputStream] = {}
        self._calls: dict[int, asyncio.Future[m.Extended]] = {}
        self._numbers = itertools.count(1)
        self._load = Load(0, 0, 0.0)
        self.on_load_change: Callable[[], None] = lambda: None
        self._supervisor: asyncio.Task[None] | None = None
        self._ready: m.Ready | None = None
        self.health = Health.STARTING
        # Counts the core's lives: a session belongs to one.
        self.generation = 0

    @property
    def ready(self) -> m.Ready:
        """Facts of the loaded model; valid once started."""
        if self._ready is None:
            raise WeirError(ErrorCode.MODEL_UNAVAILABLE, internal="the engine has not started")
        return self._ready

    @property
    def load(self) -> Load:
        """Load as the core last told."""
        return self._load

    @property
    def pid(self) -> int | None:
        """Process id of the core while it lives."""
        return self._process.pid if self._process else None

    async def start(self) -> None:
        """Start the core and wait until its model has answered a warm-up inference.

        Raises:
            WeirError: MODEL_UNAVAILABLE, or what the core reports.
        """
        try:
            await self._launch()
        except WeirError:
            self.health = Health.FAILED
            raise
        self._supervisor = asyncio.create_task(self._supervise(), name="engine-core-supervisor")

    async def submit(self, build: Callable[[int], m.Submit]) -> OutputStream:
        """Send a generation; close the stream that is returned to abort it."""
        number = next(self._numbers)
        stream = OutputStream(number, self._abort)
        self._send(build(number))
        self._streams[number] = stream
        return stream

    async def call(self, build: Callable[[int], m.Call]) -> m.Extended:
        """Send a call and wait for its answer."""
        number = next(self._numbers)
        future: asyncio.Future[m.Extended] = asyncio.get_running_loop().create_future()
        self._send(build(number))
        self._calls[number] = future
        try:
            return await future
        finally:
            self._calls.pop(number, None)

    def open_session(self) -> int:
        """Create a session in the core and return its number."""
        number = next(self._numbers)
        self._send(m.OpenSession(number))
        return number

    def close_session(self, session: int) -> None:
        """Free a session; a core that is gone has freed it already."""
        if self._process is not None:
            self._process.send(m.encode(m.CloseSession(session)))

    async def aclose(self) -> None:
        """End the core; idempotent, and safe before ``start``."""
        self.health = Health.CLOSED
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.wait([self._supervisor])
            self._supervisor = None
        if self._process is not None:
            await self._process.aclose()
            self._process = None
        self._fail_all(WeirError(ErrorCode.SHUTTING_DOWN))
        self._set_load(m.Stats())

    def _abort(self, number: int) -> None:
        if self._streams.pop(number, None) and self._process is not None:
            self._process.send(m.encode(m.Abort(number)))

    def _send(self, message: m.ToCore) -> None:
        if self.health is Health.CLOSED:
            raise WeirError(ErrorCode.SHUTTING_DOWN)
        if self._process is None or self.health is not Health.READY:
            raise _crashed()
        self._process.send(m.encode(message))

    async def _launch(self) -> None:
        self._process = process = await CoreProcess.spawn()
        try:
            process.send(m.encode(self._start))
            async with asyncio.timeout(self._ready_timeout_s):
                payload = await process.receive()
        except TimeoutError:
            await self._discard()
            raise WeirError(
                ErrorCode.MODEL_UNAVAILABLE, internal="the engine core did not get ready"
            ) from None
        except BaseException:
            await self._discard()
            raise
        answer = m.decode_to_server(payload) if payload else None
        if not isinstance(answer, m.Ready):
            await self._discard()
            raise _not_loaded(answer)
        self._ready = answer
        self.generation += 1
        self.health = Health.READY
        log.info("engine_ready", backend=self._start.backend, pid=process.pid)

    async def _discard(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            await process.aclose()

    async def _supervise(self) -> None:
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            born = loop.time()
            await self._read_until_end()
            self.health = Health.RESTARTING
            self._fail_all(_crashed())
            self._set_load(m.Stats())
            await self._discard()
            failures = 0 if loop.time() - born > _STEADY_S else failures
            failures = await self._relaunch(failures)
            if self.health is Health.FAILED:
                log.error("engine_failed", backend=self._start.backend, failures=failures)
                return

    async def _relaunch(self, failures: int) -> int:
        while True:
            failures += 1
            if failures > self._restarts:
                self.health = Health.FAILED
                return failures
            log.warning("engine_restarting", backend=self._start.backend, attempt=failures)
            await asyncio.sleep(_BACKOFF_S[min(failures, len(_BACKOFF_S)) - 1])
            try:
                await self._launch()
            except WeirError as error:
                log.warning("engine_restart_failed", backend=self._start.backend, reason=str(error))
            else:
                return failures

    async def _read_until_end(self) -> None:
        process = self._process
        while process is not None and (payload := await process.receive()):
            try:
                frame = m.decode_to_server(payload)
            except msgspec.DecodeError as error:
                log.warning("engine_frame_unreadable", reason=str(error))
                return
            if isinstance(frame, m.Frame):
                self._take(frame)

    def _take(self, frame: m.Frame) -> None:
        for event in frame.events:
            match event:
                case m.Output():
                    self._output(event)
                case m.Extended():
                    self._answer(event.call, event)
                case m.Failed():
                    self._failed(event)
        if frame.stats is not None:
            self._set_load(frame.stats)

    def _output(self, output: m.Output) -> None:
        if stream := self._streams.get(output.id):
            stream.put(output)
            if output.finish:
                del self._streams[output.id]

    def _answer(self, number: int, answer: m.Extended) -> None:
        future = self._calls.get(number)
        if future is not None and not future.done():
            future.set_result(answer)

    def _failed(self, failed: m.Failed) -> None:
        error = to_error(failed)
        if failed.request is not None and (stream := self._streams.pop(failed.request, None)):
            stream.fail(error)
        if failed.call is not None and (future := self._calls.get(failed.call)) and not future.done():
            future.set_exception(error)

    def _fail_all(self, error: WeirError) -> None:
        streams, self._streams = self._streams, {}
        for stream in streams.values():
            stream.fail(error)
        for future in self._calls.values():
            if not future.done():
                future.set_exception(error)

    def _set_load(self, stats: m.Stats) -> None:
        load = Load(stats.running, stats.waiting, stats.kv_cache_used)
        if load != self._load:
            self._load = load
            self.on_load_change()


def options_dict(options: msgspec.Struct) -> dict[str, Any]:
    """Return a struct of options as the plain dictionary that ``Start`` carries."""
    plain: dict[str, Any] = msgspec.to_builtins(options)
    return plain
