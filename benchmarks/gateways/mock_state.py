"""What the mock provider knows of itself: how it answers, and what it has sent."""

from __future__ import annotations

import asyncio
import ctypes
import mmap
import os
import signal

from mock_answers import Stream

# What was counted as written reaches the system's buffers before the process dies.
_LAST_WRITES_S = 0.001


class State(ctypes.Structure):
    """The length of answers, and what was sent: in memory that outlives the process that serves.

    ``lives`` is the number of processes that have served.
    """

    chunks: int
    answered: int
    failed: int
    prompt: int
    completion: int
    lives: int
    _fields_ = [
        (name, ctypes.c_int64) for name in ("chunks", "answered", "failed", "prompt", "completion", "lives")
    ]

    @classmethod
    def shared(cls) -> State:
        """Return one that child processes share."""
        return cls.from_buffer(mmap.mmap(-1, ctypes.sizeof(cls)))

    def told(self) -> dict[str, int]:
        """Return all fields."""
        return {name: getattr(self, name) for name, *_ in self._fields_}


class Provider:
    """What all connections of a process share.

    Args:
        name: the one that prompts use.
        pace_s: between two chunks of an answer.
        state: what was sent so far.
    """

    def __init__(self, name: str, pace_s: float, state: State) -> None:
        self.name, self.pace_s, self.state = name, pace_s, state
        # When a stream began, and when its client closed it (monotonic seconds), by the request's number.
        self.begun: dict[str, float] = {}
        self.left: dict[str, float] = {}
        self.dying = False
        self._streams: dict[int, Stream] = {}

    def stream(self) -> Stream:
        """Return the bytes of an answer."""
        chunks = self.state.chunks
        if chunks not in self._streams:
            self._streams[chunks] = Stream(chunks)
        return self._streams[chunks]

    def die(self) -> None:
        """Be killed, having written no more than was counted."""
        self.dying = True
        asyncio.get_running_loop().call_later(_LAST_WRITES_S, os.kill, os.getpid(), signal.SIGKILL)
