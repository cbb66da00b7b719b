"""One supervised process: started, watched, restarted with growing pauses, stopped with grace."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum

from weir.cli.pipes import spawn

MAX_LINE_BYTES = 16_384


class ChildState(StrEnum):
    """Where a child is in its life."""

    STARTING = "starting"
    SERVING = "serving"
    RESTARTING = "restarting"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """What to run. ``ready`` returns once the process does its work."""

    name: str
    command: Sequence[str]
    ready: Callable[[], Awaitable[None]]
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """Deaths within ``quick_s`` of the start count as quick; after ``max_quick`` in a row it is given up."""

    quick_s: float = 30.0
    max_quick: int = 5
    first_pause_s: float = 0.5
    longest_pause_s: float = 10.0

    def pause(self, quick_deaths: int) -> float:
        """Return seconds to wait before the next start."""
        return min(self.longest_pause_s, self.first_pause_s * 2.0 ** max(0, quick_deaths - 1))


class Child:
    """A process under supervision.

    ``on_line(name, line)`` gets each line that it writes; ``on_state(child, text)`` each change of state,
    with a sentence about it.
    """

    def __init__(
        self,
        spec: ChildSpec,
        policy: RestartPolicy,
        on_line: Callable[[str, str], None],
        on_state: Callable[[Child, str], None],
    ) -> None:
        self.spec = spec
        self.state = ChildState.STARTING
        self.reason = "is starting"
        self._policy = policy
        self._on_line = on_line
        self._on_state = on_state
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()
        self._has_served = False

    @property
    def pid(self) -> int | None:
        """Process id of the present or last run."""
        return self._process.pid if self._process else None

    async def run(self) -> None:
        """Keep the process running until ``stop``, or until it is given up; returns then."""
        quick_deaths = 0
        while True:
            started = time.monotonic()
            code = await self._run_once()
            if self._stopping.is_set():
                self._change(ChildState.STOPPED, "stopped")
                return
            quick_deaths = quick_deaths + 1 if time.monotonic() - started < self._policy.quick_s else 1
            reason = describe_exit(code)
            # What never worked will not work the second time, and has just said why.
            if not self._has_served or quick_deaths >= self._policy.max_quick:
                times = (
                    f" {quick_deaths} times in a row, each soon after its start" if self._has_served else ""
                )
                self._change(ChildState.FAILED, f"{reason}{times}; given up")
                return
            pause = self._policy.pause(quick_deaths)
            self._change(ChildState.RESTARTING, f"{reason}; restarting in {pause:g} s")
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)
            if self._stopping.is_set():
                self._change(ChildState.STOPPED, "stopped")
                return

    async def stop(self, grace_s: float) -> None:
        """Ask it to end, and after ``grace_s`` seconds make it."""
        self._stopping.set()
        process = self._process
        if process is None or process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), grace_s)
        except TimeoutError:
            self.kill()
            await process.wait()

    def kill(self) -> None:
        """End the process, and all that it started, at once."""
        self._stopping.set()
        if self._process is not None and self._process.returncode is None:
            self._kill_group(self._process.pid)

    async def _run_once(self) -> int:
        if self._stopping.is_set():
            return 0
        async with spawn(self.spec.command, self.spec.env or None) as (process, output):
            self._process = process
            if self._stopping.is_set():
                process.terminate()
            pump = asyncio.create_task(self._pump(output))
            ready = asyncio.create_task(self._announce())
            try:
                return await process.wait()
            finally:
                ready.cancel()
                # What a dead process left behind in its session ends with it.
                self._kill_group(process.pid)
                await asyncio.wait([pump, ready], timeout=2)
                pump.cancel()

    async def _announce(self) -> None:
        await self.spec.ready()
        again = self._has_served
        self._has_served = True
        self._change(ChildState.SERVING, "serving again" if again else "serving")

    async def _pump(self, output: asyncio.StreamReader) -> None:
        pending = b""
        while chunk := await output.read(65_536):
            *lines, pending = (pending + chunk).split(b"\n")
            if len(pending) > MAX_LINE_BYTES:
                lines.append(pending)
                pending = b""
            for line in lines:
                self._tell(line)
        self._tell(pending)

    def _tell(self, line: bytes) -> None:
        text = line[:MAX_LINE_BYTES].decode(errors="replace").rstrip()
        if text:
            self._on_line(self.spec.name, text)

    def _change(self, state: ChildState, text: str) -> None:
        self.state, self.reason = state, text
        self._on_state(self, text)

    @staticmethod
    def _kill_group(group: int) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)


def describe_exit(code: int) -> str:
    """Say how a process ended."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"
