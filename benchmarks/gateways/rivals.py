"""The gateways to compare with, each in an environment of its own, installed when first wanted."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "weir" / "gateways"
LITELLM = "litellm[proxy]==1.106.2"
PORTKEY = "@portkey-ai/gateway@1.15.2"
READY_S = 120.0
_CONFIG = """
model_list:
  - model_name: mock
    litellm_params: {{model: openai/mock, api_base: "{address}", api_key: sk-none}}
general_settings: {{disable_spend_logs: true}}
"""


@dataclass(frozen=True, slots=True)
class Door:
    """An HTTP gateway that runs: where to post, and what to send along."""

    name: str
    url: str
    headers: dict[str, str] = field(default_factory=dict)
    streams: bool = True


def free_port() -> int:
    """Return a port that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        port: int = held.getsockname()[1]
        return port


@asynccontextmanager
async def started(*command: str, port: int, environ: dict[str, str] | None = None) -> AsyncIterator[int]:
    """Run a server until the block is left; yields its process id once it listens."""
    process = await asyncio.create_subprocess_exec(
        *command,
        env={**os.environ, **(environ or {})},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(READY_S):
            while not await _listens(port):
                if process.returncode is not None:
                    raise SystemExit(f"{command[0]} ended with status {process.returncode} as it started.")
                await asyncio.sleep(0.1)
        yield process.pid
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, 15)
        with suppress(TimeoutError):
            async with asyncio.timeout(5):
                await process.wait()
        with suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        await process.wait()


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


@asynccontextmanager
async def provider(*options: str) -> AsyncIterator[str]:
    """Run the mock provider; yields its address."""
    port = free_port()
    script = str(Path(__file__).with_name("mock_provider.py"))
    async with started(sys.executable, script, "--port", str(port), *options, port=port):
        yield f"http://127.0.0.1:{port}"


async def answers_of(address: str, chunks: int) -> None:
    """Set the length of the mock provider's answers."""
    async with aiohttp.ClientSession() as session:
        await session.post(f"{address}/answers", json={"chunks": chunks})


async def counts_of(address: str) -> dict[str, int]:
    """Return what the mock provider sent, see its ``State``; one that was just killed is waited for."""
    async with asyncio.timeout(READY_S), aiohttp.ClientSession() as session:
        while True:
            with suppress(aiohttp.ClientConnectorError):
                async with session.get(f"{address}/count") as response:
                    found: dict[str, int] = await response.json()
                    return found
            await asyncio.sleep(0.01)


@asynccontextmanager
async def litellm(address: str) -> AsyncIterator[Door]:
    """Run LiteLLM's proxy in front of ``address``."""
    home = CACHE / "litellm"
    binary = home / "bin" / "litellm"
    if not binary.exists():
        _install(["uv", "venv", "--clear", "--quiet", "--python", "3.11", str(home)])
        _install(
            [
                "uv",
                "pip",
                "install",
                "--no-config",
                "--quiet",
                "--python",
                str(home / "bin" / "python"),
                LITELLM,
            ]
        )
    config, port = home / "config.yaml", free_port()
    config.write_text(_CONFIG.format(address=f"{address}/v1"), encoding="utf-8")
    options = ["--config", str(config), "--port", str(port), "--host", "127.0.0.1", "--num_workers", "1"]
    environ = {
        "LITELLM_LOG": "ERROR",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
    }
    async with started(str(binary), *options, port=port, environ=environ):
        yield Door("LiteLLM", f"http://127.0.0.1:{port}/v1/chat/completions")


@asynccontextmanager
async def portkey(address: str) -> AsyncIterator[Door]:
    """Run Portkey's gateway; each request names ``address``.

    To a stream of this provider version 1.15.2 on Node 20 answers 500 ("TypeError: immutable").
    """
    home = CACHE / "portkey"
    script = home / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"
    if not script.exists():
        home.mkdir(parents=True, exist_ok=True)
        _install(["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(home), PORTKEY])
    port = free_port()
    headers = {
        "x-portkey-provider": "openai",
        "x-portkey-custom-host": f"{address}/v1",
        "authorization": "Bearer sk-none",
    }
    trusted = {"TRUSTED_CUSTOM_HOSTS": "127.0.0.1,localhost", "NODE_ENV": "production"}
    async with started("node", str(script), f"--port={port}", "--headless", port=port, environ=trusted):
        yield Door("Portkey", f"http://127.0.0.1:{port}/v1/chat/completions", headers, streams=False)


def _install(command: list[str]) -> None:
    subprocess.run(command, check=True)
