"""The same load by h2load (of Debian's nghttp2-client): it costs next to nothing, and every gateway the same.

A client in Python takes CPU time from the gateway beside it, one of gRPC four times as much as one of HTTP.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import struct
import tempfile
from dataclasses import dataclass
from pathlib import Path

import rivals
from load import PROMPT, Run

from weir.v1 import frontier_proxy_pb2, types_pb2


@dataclass(frozen=True, slots=True)
class Shot:
    """One request, as bytes. ``provider`` counts what it answers."""

    url: str
    headers: dict[str, str]
    body: bytes
    provider: str
    options: tuple[str, ...] = ()

    async def load(self, *, connections: int, seconds: float, expected: str) -> Run:
        """Send it as fast as answers come; those that the provider never gave count as wrong.

        Raises SystemExit where h2load is not installed, or an answer has another status than 200.
        """
        before = (await rivals.counts_of(self.provider))["answered"]
        with tempfile.TemporaryDirectory() as folder:
            told = Path(folder, "log")
            headers = [part for name, value in self.headers.items() for part in ("-H", f"{name}: {value}")]
            limits = ["-D", f"{1e3 * seconds:.0f}ms", "-c", str(connections), "-m", "1"]
            files = ["-d", self._body_in(folder), f"--log-file={told}"]
            await _run(*limits, *files, *headers, *self.options, self.url)
            rows = _rows(told)
        if bad := {status for _, status, _ in rows} - {"200"}:
            raise SystemExit(f"{self.url} answered with status {', '.join(sorted(bad))}.")
        answered = (await rivals.counts_of(self.provider))["answered"] - before
        return Run(seconds, [int(each) / 1e6 for _, _, each in rows], max(0, len(rows) - answered))

    def _body_in(self, folder: str) -> str:
        path = Path(folder, "body")
        path.write_bytes(self.body)
        return str(path)


def _rows(log: Path) -> list[list[str]]:
    """Return each request's beginning, status and microseconds."""
    return [line.split("\t") for line in log.read_text().splitlines()]


async def _run(*options: str) -> None:
    if not shutil.which("h2load"):
        raise SystemExit("h2load is not installed; Debian has it in nghttp2-client.")
    process = await asyncio.create_subprocess_exec("h2load", *options, stdout=asyncio.subprocess.DEVNULL)
    if status := await process.wait():
        raise SystemExit(f"h2load ended with status {status}.")


def over_grpc(target: str, provider: str) -> Shot:
    """Return the request to the frontier proxy, framed as gRPC has it (a byte of flags, four of length)."""
    messages = [types_pb2.Message(role=types_pb2.ROLE_USER, content=PROMPT)]
    request = frontier_proxy_pb2.ForwardRequest(prompt=types_pb2.Prompt(messages=messages))
    message = request.SerializeToString()
    url = f"http://{target}/weir.v1.FrontierProxyService/Forward"
    headers = {"content-type": "application/grpc", "te": "trailers"}
    return Shot(url, headers, struct.pack(">?I", False, len(message)) + message, provider)


def over_http(door: rivals.Door, provider: str, *, stream: bool) -> Shot:
    """Return the request to a gateway that speaks OpenAI's protocol."""
    usage = {"stream_options": {"include_usage": True}} if stream else {}
    body = {
        "model": "mock",
        "stream": stream,
        **usage,
        "messages": [{"role": "user", "content": PROMPT}],
    }
    headers = {"content-type": "application/json", "authorization": "Bearer sk-none", **door.headers}
    return Shot(door.url, headers, json.dumps(body).encode(), provider, ("--h1",))
