"""The engine core process: ``python -m weir.engines.core.main FD PARENT``, started by ``CoreClient``."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys

import structlog

from weir.common.config.model import Observability
from weir.common.logs import configure_logs
from weir.engines.core import messages as m
from weir.engines.core.backend import CoreBackend, RequestFailed, backend_factory
from weir.engines.core.channel import Channel
from weir.engines.core.loop import CoreLoop

_PR_SET_PDEATHSIG = 1
log = structlog.get_logger(__name__)


def _die_with(parent: int) -> None:
    """Have the kernel end this process with its parent; elsewhere the socket's end does."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            raise SystemExit(0)


def _load(start: m.Start, channel: Channel) -> CoreBackend | None:
    try:
        backend = backend_factory(start.backend)(start.options, channel.wake)
    except RequestFailed as error:
        channel.send(m.encode(error.for_call(0)))
        return None
    channel.send(m.encode(backend.ready()))
    return backend


def run(sock: socket.socket) -> None:
    """Serve one server over ``sock``: the first frame says what to load."""
    channel = Channel(sock)
    frames: list[bytes] = []
    while not frames and not channel.closed:
        frames = channel.receive(None)
    if not frames:
        return
    start = m.decode_to_core(frames[0])
    if not isinstance(start, m.Start):
        raise TypeError(f"the first frame must be Start, not {type(start).__name__}")
    configure_logs("engine_core", Observability.model_validate({"log_level": start.log_level}))
    backend = _load(start, channel)
    if backend is None:
        return
    try:
        CoreLoop(backend, channel).run()
    except Exception:
        log.exception("engine_core_failed", backend=start.backend)
        raise SystemExit(1) from None
    finally:
        backend.close()
        channel.close()


if __name__ == "__main__":
    _die_with(int(sys.argv[2]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's Ctrl-C is the server's to handle
    run(socket.socket(fileno=int(sys.argv[1])))
