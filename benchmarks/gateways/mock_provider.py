"""A provider that answers at once: OpenAI's chat completions over plain HTTP, every token of it counted.

uv run python benchmarks/gateways/mock_provider.py --port 8100 --name a [--chunks 32] [--pace-ms 0]

A token is four bytes, and each message adds four tokens; an answer is a row of numbers, one token a chunk,
``--pace-ms`` apart, and goes on where a last assistant message ends. ``POST /answers {"chunks": N}`` changes
their length, ``GET /count`` tells what was sent, ``GET /times`` when whose stream began, and when its client
closed it. A prompt may say what becomes of it at the provider of a name, as in ``a:broken@12 b:held@3``:

| word | what happens |
|---|---|
| refused, limited | 503, 429 |
| page | a web page with status 200 |
| broken@N, aborted@N | the connection ends, or is reset, behind the answer's first N chunks |
| killed@N | the provider's process is killed there, with all its connections; a new one takes its place |
| held@N, silent@N | nothing follows there until the client goes |
| late@N | the first chunk comes after N ms |
| unreported | no count of tokens at the end |
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from typing import Any

import uvloop
from mock_answers import CUT, END, Fate, fate_of, label_of, tokens, whole
from mock_state import Provider, State

OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
_PAGE = b"<html>Bad gateway</html>"


class Connection(asyncio.Protocol):
    """One connection of a client; requests come one after the other."""

    def __init__(self, provider: Provider) -> None:
        self._provider, self._state = provider, provider.state
        self._buffer = b""
        self._transport: asyncio.Transport | None = None
        self._answer: StreamedAnswer | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        self._transport = transport  # type: ignore[assignment]

    def connection_lost(self, error: Exception | None) -> None:
        """Stop what is being written."""
        del error
        if self._answer:
            self._answer.leave()

    def data_received(self, data: bytes) -> None:
        """Answer each whole request."""
        self._buffer += data
        for path, body in self._requests():
            if not self._provider.dying:
                self._take(path, body)

    def _requests(self) -> Iterator[tuple[str, bytes]]:
        while b"\r\n\r\n" in self._buffer:
            head, rest = self._buffer.split(b"\r\n\r\n", 1)
            first, *headers = head.split(b"\r\n")
            named = dict(header.lower().split(b":", 1) for header in headers if b":" in header)
            size = int(named.get(b"content-length", b"0"))
            if len(rest) < size:
                return
            self._buffer = rest[size:]
            yield first.split(b" ")[1].decode(), rest[:size]

    def _take(self, path: str, body: bytes) -> None:
        if path == "/count":
            self._plain(200, self._state.told())
        elif path == "/times":
            self._plain(200, {"begun": self._provider.begun, "left": self._provider.left})
        elif path == "/answers":
            self._state.chunks = json.loads(body)["chunks"]
            self._plain(200, {})
        else:
            self._complete(json.loads(body))

    def _complete(self, asked: dict[str, Any]) -> None:
        state, texts = self._state, [str(message["content"]) for message in asked["messages"]]
        fate = fate_of(self._provider.name, texts)
        if fate.word in ("refused", "limited", "page"):
            state.failed += 1
            self._refuse(fate.word)
            return
        prompt = sum(map(tokens, texts)) + 4 * len(texts)
        state.answered += 1
        state.prompt += prompt
        if asked.get("stream") and self._transport:
            said = len(texts[-1].split()) if asked["messages"][-1]["role"] == "assistant" else 0
            self._transport.write(OK)
            self._answer = StreamedAnswer(self._provider, self._transport, fate, label_of(texts))
            self._answer.begin(prompt, said)
        else:
            state.completion += state.chunks
            self._plain(200, whole(state.chunks, prompt))

    def _refuse(self, word: str) -> None:
        if word == "page":
            head = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n" % len(_PAGE)
            self._write(head + _PAGE)
        elif word == "limited":
            self._plain(429, {"error": {"type": "rate_limit_exceeded"}}, b"Retry-After: 0\r\n")
        else:
            self._plain(503, {"error": {"type": "server_error"}})

    def _plain(self, status: int, content: object, more: bytes = b"") -> None:
        body = json.dumps(content).encode()
        head = b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\n%sContent-Length: %d\r\n\r\n"
        self._write(head % (status, more, len(body)) + body)

    def _write(self, data: bytes) -> None:
        if self._transport and not self._transport.is_closing():
            self._transport.write(data)


class StreamedAnswer:
    """One answer on its way; a chunk counts as sent when it is written."""

    def __init__(self, provider: Provider, transport: asyncio.Transport, fate: Fate, label: str) -> None:
        self._provider, self._transport = provider, transport
        self._fate, self._label = fate, label
        self._stream = provider.stream()
        self._open = True
        self._prompt = self._sent = 0

    def begin(self, prompt: int, said: int) -> None:
        """Write what follows the ``said`` first chunks, to a prompt of so many tokens."""
        self._prompt = prompt
        self._provider.begun[self._label] = time.monotonic()
        cut = self._fate.at if self._fate.word in CUT else None
        self._left = iter(self._stream.pieces[said:cut])
        if self._fate.word == "late":
            asyncio.get_running_loop().call_later(1e-3 * self._fate.at, self._go_on)
        else:
            self._go_on()

    def leave(self) -> None:
        """Write no more: the connection is closed."""
        if self._open:
            self._open = False
            self._provider.left[self._label] = time.monotonic()

    def _go_on(self) -> None:
        pace = self._provider.pace_s
        while self._open and not self._provider.dying and not self._transport.is_closing():
            piece = next(self._left, None)
            if piece is None:
                self._end()
                return
            self._transport.write(piece)
            self._sent += 1
            self._provider.state.completion += 1
            if pace:
                asyncio.get_running_loop().call_later(pace, self._go_on)
                return

    def _end(self) -> None:
        word = self._fate.word
        self._open = word in ("held", "silent")
        if word == "broken":
            self._transport.close()
        elif word == "aborted":
            self._transport.abort()
        elif word == "killed":
            self._provider.die()
        elif word == "unreported":
            self._transport.write(self._stream.last + END)
        elif not self._open:
            self._transport.write(self._stream.usage(self._prompt, self._sent))


async def serve(port: int, provider: Provider) -> None:
    """Serve until cancelled."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(provider), "127.0.0.1", port, reuse_port=True)
    async with server:
        await server.serve_forever()


def main() -> None:
    """Read the command line and serve, in one process after the other."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--chunks", type=int, default=32)
    parser.add_argument("--pace-ms", type=float, default=0.0)
    parser.add_argument("--name", default="a")
    given = parser.parse_args()
    state = State.shared()
    state.chunks = given.chunks
    with socket.socket() as held:
        # Nobody else is given the port while no process serves it.
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(("127.0.0.1", given.port))
        while True:
            state.lives += 1
            child = os.fork()
            if child == 0:
                uvloop.run(serve(given.port, Provider(given.name, 1e-3 * given.pace_ms, state)))
                return
            if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != -signal.SIGKILL:
                return


if __name__ == "__main__":
    main()
