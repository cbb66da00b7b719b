"""Constraint checks in a process of their own, which ends where one takes too long."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, Process
from contextlib import suppress
from typing import Any

import structlog

from weir.common.errors import ErrorCode, WeirError
from weir.engines.base import Constraint
from weir.verifier.constraint import invalid

log = structlog.get_logger(__name__)
# A check takes about a millisecond. Python's regular expressions hold the GIL and cannot be interrupted, and
# a schema may hold any: so the bound is a process that can be killed.
TIMEOUT_S = 3.0
START_TIMEOUT_S = 30.0
MODULE = "weir.verifier.checking.child"


class Checker:
    """A component: one checking process, started with the service and again when it was lost."""

    def __init__(self, timeout_s: float = TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        self._lock = asyncio.Lock()
        self._child: _Child | None = None

    async def start(self) -> None:
        """Start the process; it gets ready while the engine loads."""
        self._child = await _Child.spawn()

    async def aclose(self) -> None:
        """End the process."""
        child, self._child = self._child, None
        if child is not None:
            await child.end()

    async def violation(self, constraint: Constraint, answer: str) -> str:
        """Return where and how ``answer`` breaks ``constraint``, or "".

        Raises:
            WeirError: INVALID_CONSTRAINT where the constraint is broken or its check takes too long.
        """
        request = {"kind": constraint.kind, "value": constraint.value, "answer": answer}
        async with self._lock:
            try:
                reply = await self._ask(request)
            except TimeoutError:
                await self.aclose()
                reason = f"checking this answer took more than {self._timeout_s:g} s; simplify it"
                raise invalid(constraint, reason) from None
            except BaseException:
                await self.aclose()  # a reply that nobody awaits must not answer the next request
                raise
        if "broken" in reply:
            raise invalid(constraint, reply["broken"])
        return str(reply["violation"])

    async def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        child = self._child
        if child is None or child.ended:
            await self.aclose()
            child = self._child = await _Child.spawn()
        await child.ready()
        async with asyncio.timeout(self._timeout_s):
            return await child.ask(request)


class _Child:
    """The process and its two pipes."""

    def __init__(
        self, process: Process, requests: asyncio.StreamWriter, replies: asyncio.StreamReader
    ) -> None:
        self._process = process
        self._requests = requests
        self._replies = replies
        self._ready = False

    @classmethod
    async def spawn(cls) -> _Child:
        """Start the process, out of reach of the terminal's signals: it ends with its input."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", MODULE, stdin=PIPE, stdout=PIPE, start_new_session=True
        )
        if process.stdin is None or process.stdout is None:
            raise WeirError(ErrorCode.INTERNAL, internal="the checking process has no pipes")
        return cls(process, process.stdin, process.stdout)

    @property
    def ended(self) -> bool:
        """Whether the process is gone."""
        return self._process.returncode is not None

    async def ready(self) -> None:
        """Wait until its modules are loaded."""
        if not self._ready:
            async with asyncio.timeout(START_TIMEOUT_S):
                await self._line()
            self._ready = True

    async def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send one request and return its reply."""
        self._requests.write(json.dumps(request).encode() + b"\n")
        await self._requests.drain()
        return await self._line()

    async def end(self) -> None:
        """Kill the process and close the pipes."""
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.communicate()

    async def _line(self) -> dict[str, Any]:
        line = await self._replies.readline()
        if not line:
            raise WeirError(ErrorCode.INTERNAL, internal="the checking process ended")
        reply: dict[str, Any] = json.loads(line)
        return reply
