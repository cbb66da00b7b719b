"""The engine core's life: it dies, it is restarted, it never outlives its server."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from tests.contract.engine_contract import QUESTION, STORY, ask, run, until
from weir.common.config.model import LocalModel
from weir.common.errors import ErrorCode, WeirError
from weir.engines import openvino
from weir.engines.base import Health
from weir.engines.core.client import CoreClient
from weir.engines.core.engine import CoreEngine
from weir.engines.core.messages import Start

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(embedded_model: Path) -> AsyncIterator[CoreEngine]:
    engine = openvino.create("embedded", embedded_model, LocalModel(), max_context=1024)
    await engine.start()
    yield engine
    await engine.aclose()


async def test_a_kill_in_mid_stream_fails_what_runs_and_the_core_comes_back(engine: CoreEngine) -> None:
    session = await engine.open_session()
    await session.extend([1, 2, 3])
    streams = [engine.generate(ask(STORY, max_tokens=400)) for _ in range(2)]
    for stream in streams:
        await anext(stream)
    killed = engine.core_pid
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    for stream in streams:
        with pytest.raises(WeirError) as raised:
            async for _ in stream:
                pass
        assert raised.value.code is ErrorCode.ENGINE_CRASHED
    assert await engine.health() is Health.RESTARTING
    assert engine.load.running == 0
    with pytest.raises(WeirError):
        await session.extend([4])
    with pytest.raises(WeirError) as raised:
        await run(engine, ask(QUESTION))
    assert raised.value.code is ErrorCode.ENGINE_CRASHED
    async with asyncio.timeout(60):
        while await engine.health() is not Health.READY:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert engine.core_pid != killed
    assert "Paris" in (await run(engine, ask(QUESTION))).text
    with pytest.raises(WeirError) as raised:
        await session.extend([4])
    assert raised.value.code is ErrorCode.ENGINE_CRASHED
    await session.aclose()
    fresh = await engine.open_session()
    assert len(await fresh.extend([1, 2])) == 2
    await fresh.aclose()


async def test_closing_ends_the_process_and_what_runs(engine: CoreEngine) -> None:
    pid = engine.core_pid
    assert pid is not None
    stream = engine.generate(ask(STORY, max_tokens=400))
    await anext(stream)
    await engine.aclose()
    assert not psutil.pid_exists(pid)
    with pytest.raises(WeirError) as raised:
        async for _ in stream:
            pass
    assert raised.value.code is ErrorCode.SHUTTING_DOWN
    assert await engine.health() is Health.CLOSED
    await engine.aclose()


async def test_an_engine_that_never_started_closes(tmp_path: Path) -> None:
    await openvino.create("m", tmp_path / "none.gguf", LocalModel(), max_context=8).aclose()


async def test_an_unknown_backend_is_told(tmp_path: Path) -> None:
    client = CoreClient(Start("no-such-runtime", {}))
    with pytest.raises(WeirError) as raised:
        await client.start()
    assert raised.value.code is ErrorCode.UNSUPPORTED
    assert client.health is Health.FAILED
    await client.aclose()


async def test_the_core_dies_with_its_server(embedded_model: Path) -> None:
    script = f"""
import asyncio, pathlib
from weir.common.config.model import LocalModel
from weir.engines import openvino
async def main():
    engine = openvino.create("m", pathlib.Path({str(embedded_model)!r}), LocalModel(), max_context=256)
    await engine.start()
    print(engine.core_pid, flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert server.stdout is not None
    async with asyncio.timeout(60):
        lines = [await server.stdout.readline()]
        while not lines[-1].strip().isdigit():
            assert lines[-1], "the server ended before its engine was ready"
            lines.append(await server.stdout.readline())
    core = int(lines[-1])
    server.kill()
    await server.wait()
    await until(lambda: not psutil.pid_exists(core) or psutil.Process(core).status() == "zombie", 10)
