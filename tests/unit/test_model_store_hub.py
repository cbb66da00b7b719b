"""Hub sources against a hub of our own on the loopback: resuming, changed files, no network."""

import asyncio
import hashlib
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

CONTENT = os.urandom(12 << 20)  # more than one chunk of the hub client, which resumes by chunks
NAME = "tiny.gguf"
REVISION = "0123456789abcdef0123456789abcdef01234567"
PULL = """
import asyncio, sys
from pathlib import Path
from weir.common.config.model import Models
from weir.models.store import ModelStore
store = ModelStore(Models(directory=Path(sys.argv[1]), manifest=Path(sys.argv[2])))
seen = []
path = asyncio.run(store.pull("tiny", lambda *report: seen.append(report))).path
assert any(label.startswith("downloading") for label, _, _ in seen), seen
print(path)
"""


class FakeHub:
    """The two calls of the hub's protocol that a download needs."""

    def __init__(self) -> None:
        self.content = CONTENT
        self.ranges: list[str | None] = []
        self.break_after: int | None = None
        app = web.Application()
        app.router.add_route("*", "/someone/tiny/resolve/{revision}/{name:.*}", self._file)
        self.server = TestServer(app)

    async def _file(self, request: web.Request) -> web.StreamResponse:
        if request.match_info["name"] != f"nested/{NAME}":
            return web.Response(status=404, headers={"X-Error-Code": "EntryNotFound"})
        headers = {"ETag": f'"{hashlib.sha256(self.content).hexdigest()}"', "X-Repo-Commit": REVISION}
        if request.method == "HEAD":
            return web.Response(headers=headers | {"Content-Length": str(len(self.content))})
        self.ranges.append(request.headers.get("Range"))
        start = request.http_range.start or 0
        body = self.content[start:]
        response = web.StreamResponse(status=206 if start else 200, headers=headers)
        if start:
            response.headers["Content-Range"] = f"bytes {start}-{len(self.content) - 1}/{len(self.content)}"
        response.content_length = len(body)
        await response.prepare(request)
        if self.break_after is not None:
            await response.write(body[: self.break_after])
            self.break_after = None
            assert request.transport is not None
            request.transport.close()
            return response
        await response.write(body)
        return response


@pytest.fixture
async def hub() -> AsyncIterator[FakeHub]:
    hub = FakeHub()
    async with hub.server:
        yield hub


async def pull(folder: Path, endpoint: str, **environment: str) -> tuple[int, str]:
    """Run a pull in a process of its own: the hub's library reads its environment at import."""
    file = {"name": NAME, "size": len(CONTENT), "sha256": hashlib.sha256(CONTENT).hexdigest()}
    source = {"kind": "hub", "repo": "someone/tiny", "revision": REVISION, "paths": {NAME: f"nested/{NAME}"}}
    entry = {"license": "MIT", "main": NAME, "files": [file], "sources": [source]}
    (folder / "manifest.yaml").write_bytes(msgspec.yaml.encode({"models": {"tiny": entry}}))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PULL, str(folder / "store"), str(folder / "manifest.yaml")),
        env=os.environ
        | {"HF_ENDPOINT": endpoint, "HF_HUB_OFFLINE": "0", "HF_HOME": str(folder)}
        | environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode is not None
    return process.returncode, (out + err).decode()


def stored(folder: Path) -> Path:
    return folder / "store" / "tiny" / NAME


async def test_file_is_fetched_from_its_path_in_the_repository(hub: FakeHub, tmp_path: Path) -> None:
    code, output = await pull(tmp_path, str(hub.server.make_url("")).rstrip("/"))
    assert code == 0, output
    assert stored(tmp_path).read_bytes() == CONTENT
    assert not list(stored(tmp_path).parent.glob(".downloads*"))


async def test_broken_off_download_is_resumed(hub: FakeHub, tmp_path: Path) -> None:
    hub.break_after = 11 << 20
    code, output = await pull(tmp_path, str(hub.server.make_url("")).rstrip("/"))
    assert code == 0, output
    assert stored(tmp_path).read_bytes() == CONTENT
    assert hub.ranges[0] is None
    assert hub.ranges[1] is not None
    assert hub.ranges[1].startswith("bytes=")


async def test_changed_file_is_refused_before_it_is_downloaded(hub: FakeHub, tmp_path: Path) -> None:
    hub.content = b"something else"
    code, output = await pull(tmp_path, str(hub.server.make_url("")).rstrip("/"))
    assert code != 0
    assert hashlib.sha256(hub.content).hexdigest() in output
    assert hub.ranges == []


@pytest.mark.parametrize(
    ("endpoint", "environment", "reason"),
    [
        ("http://127.0.0.1:1", {}, "ConnectError"),
        ("http://hub.invalid", {}, "ConnectError"),
        ("http://127.0.0.1:1", {"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE is set"),
    ],
)
async def test_no_hub_fails_fast_and_says_what_to_do(
    endpoint: str, environment: dict[str, str], reason: str, tmp_path: Path
) -> None:
    code, output = await asyncio.wait_for(pull(tmp_path, endpoint, **environment), 20)
    assert code != 0
    assert reason in output
    assert "weir models pull tiny" in output
