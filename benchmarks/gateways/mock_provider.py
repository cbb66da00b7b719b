"""A provider that answers at once: OpenAI's chat completions over plain HTTP, every token of it counted.

uv run python benchmarks/gateways/mock_provider.py --port 8100 --name a

A token is four bytes, and each message adds four tokens; an answer is a row of numbers, one token a chunk,
and goes on where a last assistant message ends. ``POST /answers {"chunks": N}`` changes their length,
``GET /count`` tells what was sent. A prompt may say what becomes of it at the provider of a name, as in
``a:broken@12 b:held@3``:

| word | what happens |
|---|---|
| refused, limited | 503, 429 |
| page | a web page with status 200 |
| broken@N, aborted@N | the connection ends, or is reset, behind N chunks |
| held@N, silent@N | nothing follows behind N chunks until the client goes |
| unreported | no count of tokens at the end |
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import uvloop

OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"
_PAGE = b"<html>Bad gateway</html>"


@dataclass
class State:
    """What all connections share: the length of answers, and what was sent."""

    name: str
    chunks: int
    answered: int = 0
    failed: int = 0
    prompt: int = 0
    completion: int = 0


def tokens(text: str) -> int:
    """Return the tokens of a text."""
    return -(-len(text.encode()) // 4)


def _event(content: object) -> bytes:
    data = b"data: " + json.dumps(content).encode() + b"\n\n"
    return b"%x\r\n%s\r\n" % (len(data), data)


def words(count: int) -> list[str]:
    """Return the chunks of an answer; a lost or repeated one shows in the numbers."""
    return [f"{index:03d} " for index in range(count)]


class Stream:
    """The bytes of streamed answers of one length, made once."""

    def __init__(self, chunks: int) -> None:
        head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "mock"}
        self._head = head
        self.pieces = [self._piece({"content": word}) for word in words(chunks)]
        self.last = self._piece({}, "stop")

    def usage(self, prompt: int, completion: int) -> bytes:
        """Return the events after the last text."""
        done = b"data: [DONE]\n\n"
        usage = {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
        }
        told = _event({**self._head, "choices": [], "usage": usage})
        return self.last + told + b"%x\r\n%s\r\n" % (len(done), done) + END

    def _piece(self, delta: dict[str, str], finish: str | None = None) -> bytes:
        return _event({**self._head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})


class Connection(asyncio.Protocol):
    """One connection of a client; requests come one after the other."""

    def __init__(self, state: State, streams: dict[int, Stream]) -> None:
        self._state, self._streams = state, streams
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """Answer each whole request."""
        self._buffer += data
        for path, body in self._requests():
            self._answer(path, body)

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

    def _answer(self, path: str, body: bytes) -> None:
        if path == "/count":
            self._plain(200, vars(self._state))
        elif path == "/answers":
            self._state.chunks = json.loads(body)["chunks"]
            self._plain(200, {})
        else:
            self._complete(json.loads(body))

    def _complete(self, asked: dict[str, Any]) -> None:
        state, texts = self._state, [str(message["content"]) for message in asked["messages"]]
        stream = self._streams.setdefault(state.chunks, Stream(state.chunks))
        fate, until = _fate(state.name, texts)
        if fate in ("refused", "limited", "page"):
            state.failed += 1
            self._refuse(fate)
            return
        prompt = sum(map(tokens, texts)) + 4 * len(texts)
        state.answered += 1
        state.prompt += prompt
        if asked.get("stream"):
            said = len(texts[-1].split()) if asked["messages"][-1]["role"] == "assistant" else 0
            self._stream(stream, prompt, said, fate, until)
        else:
            state.completion += len(stream.pieces)
            self._whole(stream, prompt)

    def _refuse(self, fate: str) -> None:
        if fate == "page":
            head = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n" % len(_PAGE)
            self._write(head + _PAGE)
        elif fate == "limited":
            self._plain(429, {"error": {"type": "rate_limit_exceeded"}}, b"Retry-After: 0\r\n")
        else:
            self._plain(503, {"error": {"type": "server_error"}})

    def _stream(self, stream: Stream, prompt: int, said: int, fate: str, until: int) -> None:
        cut = fate in ("broken", "aborted", "held", "silent")
        pieces = stream.pieces[said : said + until] if cut else stream.pieces[said:]
        self._state.completion += len(pieces)
        self._write(OK)
        for piece in pieces:
            self._write(piece)
        if fate == "unreported":
            self._write(stream.last + END)
        elif not cut:
            self._write(stream.usage(prompt, len(pieces)))
        elif self._transport and fate == "broken":
            self._transport.close()
        elif self._transport and fate == "aborted":
            self._transport.abort()

    def _whole(self, stream: Stream, prompt: int) -> None:
        count = len(stream.pieces)
        message = {"role": "assistant", "content": "".join(words(count))}
        usage = {"prompt_tokens": prompt, "completion_tokens": count, "total_tokens": prompt + count}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        self._plain(
            200,
            {
                "id": "c",
                "object": "chat.completion",
                "created": 1,
                "model": "mock",
                "choices": [choice],
                "usage": usage,
            },
        )

    def _plain(self, status: int, content: object, more: bytes = b"") -> None:
        body = json.dumps(content).encode()
        head = b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\n%sContent-Length: %d\r\n\r\n"
        self._write(head % (status, more, len(body)) + body)

    def _write(self, data: bytes) -> None:
        if self._transport and not self._transport.is_closing():
            self._transport.write(data)


def _fate(name: str, texts: list[str]) -> tuple[str, int]:
    """Return what a prompt wants to become of it here, and behind how many chunks."""
    found = re.search(rf"\b{name}:([a-z]+)(?:@(\d+))?", " ".join(texts))
    return (found[1], int(found[2] or 0)) if found else ("", 0)


async def serve(port: int, state: State) -> None:
    """Serve until cancelled."""
    streams = dict[int, Stream]()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(state, streams), "127.0.0.1", port)
    async with server:
        await server.serve_forever()


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--chunks", type=int, default=32)
    parser.add_argument("--name", default="a")
    given = parser.parse_args()
    uvloop.run(serve(given.port, State(given.name, given.chunks)))


if __name__ == "__main__":
    main()
