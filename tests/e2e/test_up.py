"""`weir up` as a user runs it: it proves that it answers, shows the trace, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

pytestmark = pytest.mark.usefixtures("embedded_model")

WEIR = (sys.executable, "-m", "weir.cli.main")
SERVICES = ("ROUTER", "SLM_WORKER", "VERIFIER", "FRONTIER_PROXY")


def environment(**changes: str) -> dict[str, str]:
    """Free ports, and nothing of the user's own telemetry."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "FORCE_COLOR"))}
    ports = {f"WEIR_SERVICES__{name}__PORT": "0" for name in SERVICES}
    viewer = {"WEIR_VIEWER__HTTP_PORT": "0", "WEIR_VIEWER__OTLP_PORT": "0"}
    return {**kept, **ports, **viewer, "COLUMNS": "200", **changes}


@dataclass
class Up:
    """A running `weir up`: what it printed, and where its parts are."""

    process: asyncio.subprocess.Process
    printed: str
    target: str
    page: str
    descendants: list[psutil.Process]


@asynccontextmanager
async def running() -> AsyncIterator[Up]:
    process = await asyncio.create_subprocess_exec(
        *WEIR, "up", env=environment(), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        async with asyncio.timeout(120):
            printed = await read_until(process, "Ctrl-C stops everything.")
        target = re.search(r"is serving on (\S+)", printed)
        page = re.search(r"Traces: (\S+)", printed)
        assert target
        assert page
        below = psutil.Process(process.pid).children(recursive=True)
        yield Up(process, printed, target[1], page[1], below)
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            await process.communicate()


async def read_until(process: asyncio.subprocess.Process, text: str) -> str:
    assert process.stdout
    printed = ""
    while text not in printed:
        line = (await process.stdout.readline()).decode()
        assert line, f"it ended early:\n{printed}"
        printed += line
    return printed


async def ask(target: str, *arguments: str) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        *WEIR,
        "ask",
        "--target",
        target,
        "--json",
        *arguments,
        env=environment(),
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    return dict(json.loads(out))


async def spans_of(page: str, trace_id: str, wanted: set[str]) -> set[str]:
    """Return the services in a trace, once all wanted ones have exported their spans."""
    found: set[str] = set()
    async with (
        asyncio.timeout(30),
        aiohttp.ClientSession(page) as session,
        session.get("/api/changes") as changes,
    ):
        async for _ in changes.content:
            async with session.get(f"/api/traces/{trace_id}") as response:
                body = await response.json()
            found = {span["service"] for span in body.get("spans", [])}
            if wanted <= found:
                break
    return found


async def answered(up: Up, tier: str, services: set[str]) -> dict[str, Any]:
    """Have one tier answer, and find all these services in the answer's trace."""
    answer = await ask(up.target, "Say hello.", "--tier", tier, "--max-tokens", "8")
    assert services <= await spans_of(up.page, answer["trace_id"], services)
    return answer


async def test_up_answers_shows_traces_revives_a_service_and_stops_clean() -> None:
    async with running() as up:
        assert "Paris" in up.printed
        assert "\x1b" not in up.printed
        for name in SERVICES:
            assert re.search(rf"{name.lower()} +127\.0\.0\.1:\d+ +\d+ +serving", up.printed)

        # At once: the time goes into the start of the commands and the wait for the next export of spans.
        slm, hybrid, frontier = await asyncio.gather(
            answered(up, "slm", {"router", "slm_worker"}),
            answered(up, "hybrid", {"router", "verifier", "slm_worker"}),
            answered(up, "frontier", {"router", "frontier_proxy"}),
        )
        assert slm["tier"] == "slm"
        assert slm["text"]
        assert hybrid["tier"] == "hybrid"
        assert frontier["stand_in"]

        proxy = re.search(r"frontier_proxy +\S+ +(\d+)", up.printed)
        assert proxy
        os.kill(int(proxy[1]), signal.SIGKILL)
        async with asyncio.timeout(60):
            await read_until(up.process, "frontier_proxy is serving again")

        below = psutil.Process(up.process.pid).children(recursive=True)
        up.process.send_signal(signal.SIGTERM)
        out, _ = await up.process.communicate()
        assert up.process.returncode == 0, out.decode()
        assert out.decode().rstrip().endswith("Stopped.")
        _, left = await asyncio.to_thread(psutil.wait_procs, below, timeout=5)
        assert len(below) >= 4
        assert not left


@pytest.mark.slow
async def test_a_killed_up_leaves_no_orphans() -> None:
    async with running() as up:
        up.process.kill()
        await up.process.communicate()
        _, left = await asyncio.to_thread(psutil.wait_procs, up.descendants, timeout=30)
        assert not left


async def test_a_port_in_use_is_one_sentence(tmp_path: Path) -> None:
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    port = str(server.sockets[0].getsockname()[1])
    process = await asyncio.create_subprocess_exec(
        *WEIR,
        "up",
        env=environment(WEIR_SERVICES__ROUTER__PORT=port),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    server.close()
    assert process.returncode == 2
    (line,) = out.decode().splitlines()
    assert f"Port {port}, wanted for the router, is in use" in line
