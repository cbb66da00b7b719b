"""A real browser for tests of pages, where the machine has one."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-sync "
    "--disable-component-update --disable-quic --remote-debugging-port=0"
)


class Page:
    """A tab of a real browser, driven over its debugging protocol."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._count = 0

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        self._count += 1
        await self._socket.send_json({"id": self._count, "method": method, "params": params})
        while True:
            message = await self._socket.receive_json()
            if message.get("id") == self._count:
                return dict(message["result"])

    async def evaluate(self, script: str) -> Any:
        result = await self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    async def until(self, condition: str) -> None:
        """Wait for the page itself to say that the condition holds."""
        watch = "new Promise((done) => { const f = () => (%s) ? done() : requestAnimationFrame(f); f(); })"
        async with asyncio.timeout(15):
            await self.evaluate(watch % condition)


@asynccontextmanager
async def browser(folder: Path) -> AsyncIterator[Page]:
    assert CHROMIUM
    process = await asyncio.create_subprocess_exec(
        CHROMIUM,
        *FLAGS.split(),
        f"--user-data-dir={folder}",
        "about:blank",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr
    try:
        async with asyncio.timeout(30):
            while not (match := re.search(rb"ws://([^/]+)/", line := await process.stderr.readline())):
                assert line, "the browser ended at once"
        async with aiohttp.ClientSession(f"http://{match[1].decode()}") as session:
            async with session.get("/json") as response:
                pages = json.loads(await response.text())
            address = next(page["webSocketDebuggerUrl"] for page in pages if page["type"] == "page")
            async with session.ws_connect(address, max_msg_size=0) as socket:
                yield Page(socket)
    finally:
        process.terminate()
        await process.communicate()
