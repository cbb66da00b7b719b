"""A whole installation on free ports, as `weir up` starts it, for benchmarks."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

SERVICES = ("router", "slm_worker", "verifier", "frontier_proxy")


@dataclass(frozen=True, slots=True)
class Stack:
    """Where the services listen, and the seconds from the command to its answer."""

    ports: dict[str, int]
    start_s: float
    pid: int

    def target(self, service: str) -> str:
        return f"127.0.0.1:{self.ports[service]}"


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@asynccontextmanager
async def running_stack(**environment: str) -> AsyncIterator[Stack]:
    """Start everything, yield once `weir up` has answered its own prompt, stop it all."""
    *ports, http, otlp = free_ports(len(SERVICES) + 2)
    numbers = dict(zip(SERVICES, ports, strict=True))
    async with AsyncExitStack() as cleanup:
        state = cleanup.enter_context(tempfile.TemporaryDirectory())
        variables = {f"WEIR_SERVICES__{name.upper()}__PORT": str(port) for name, port in numbers.items()}
        variables |= {"WEIR_VIEWER__HTTP_PORT": str(http), "WEIR_VIEWER__OTLP_PORT": str(otlp)}
        variables |= {"WEIR_STATE__DIRECTORY": str(Path(state)), **environment}
        started = time.perf_counter()
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "weir.cli.main", "up",
            env={**os.environ, **variables}, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        try:
            assert process.stdout is not None
            await _until_ready(process.stdout)
            drain = asyncio.create_task(_drain(process.stdout))
            yield Stack(numbers, time.perf_counter() - started, process.pid)
            drain.cancel()
        finally:
            if process.returncode is None:
                process.terminate()
                await process.communicate()


async def _until_ready(output: asyncio.StreamReader) -> None:
    seen = []
    while line := await output.readline():
        seen.append(line.decode(errors="replace"))
        if "weir ask" in seen[-1]:
            return
    raise SystemExit("weir up did not come up:\n" + "".join(seen))


async def _drain(output: asyncio.StreamReader) -> None:
    while await output.readline():
        pass
