"""The trace page: no way for what is in a span to become markup, and it really renders in a browser."""

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
import pytest

from weir.viewer.app import Viewer
from weir.viewer.page import STATIC
from weir.viewer.spans import Event, Span

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
EVIL = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
FLAGS = (
    "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-sync "
    "--disable-component-update --disable-quic --remote-debugging-port=0"
)


def test_no_script_of_the_page_parses_markup() -> None:
    forbidden = re.compile(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function")
    scripts = sorted(STATIC.glob("*.js"))
    assert scripts
    for script in scripts:
        assert not forbidden.search(script.read_text(encoding="utf-8")), script.name


def test_the_page_loads_nothing_from_elsewhere() -> None:
    for file in STATIC.iterdir():
        addresses = re.findall(r"https?://[^\s\"')]+", file.read_text(encoding="utf-8"))
        assert set(addresses) <= {"http://www.w3.org/2000/svg"}, file.name


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


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium or Chrome on this machine")
async def test_markup_in_a_span_is_shown_as_text(tmp_path: Path) -> None:
    viewer = Viewer(tmp_path / "traces.db", http_port=0, otlp_port=0)
    attributes: dict[str, Any] = {
        "weir.tier": EVIL,
        "weir.model": EVIL,
        "weir.reasons": [EVIL],
        EVIL: EVIL,
        "rpc.response.status_code": EVIL,
    }
    event = Event(EVIL, 1_500, {EVIL: EVIL})
    trace_id = "ab" * 16
    span = Span(
        trace_id, "cd" * 8, "", EVIL, EVIL, "server", 1_000, 2_000, "error", EVIL, attributes, (event,)
    )
    try:
        await viewer.start()
        viewer.store.add([span])
        await viewer.store.flush()
        async with browser(tmp_path / "profile") as page:
            await page.call("Page.navigate", url=viewer.url)
            await page.until("document.querySelector('table.requests')")
            assert await page.evaluate("document.querySelector('td.model').textContent") == EVIL
            await page.call("Page.navigate", url=f"{viewer.url}/trace/{trace_id}")
            await page.until("document.querySelector('button.span')")
            await page.evaluate("document.querySelector('button.span').click()")
            assert EVIL in await page.evaluate("document.querySelector('.details').textContent")
            assert await page.evaluate("document.querySelectorAll('main img, main script').length") == 0
            assert "owned" not in await page.evaluate("document.title")
    finally:
        await viewer.aclose()
