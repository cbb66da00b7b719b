"""A provider that answers at once: OpenAI's chat completions over plain HTTP, every token of it counted.

uv run python benchmarks/gateways/mock_provider.py --port 8100 --chunks 32

Prompts are counted as one token a word, answers as one token a chunk. With ``--chaos SEED`` some requests
fail: refused, limited, broken in mid-stream, without a count, or answered with a page. ``GET /count`` tells
what was sent, by the first word of the prompt; ``POST /answers {"chunks": N}`` changes the length of answers.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import uvloop

OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"
FAILURES = ("refused", "limited", "broken", "page", "unreported")


@dataclass
class Counts:
    """What was sent: attempts with an answer, and their tokens."""

    answered: int = 0
    prompt: int = 0
    completion: int = 0
    failed: int = 0


@dataclass
class State:
    """What all connections share."""

    chunks: int
    failing: Callable[[], str]
    counts: dict[str, Counts] = field(default_factory=lambda: defaultdict(Counts))


def _event(content: object) -> bytes:
    data = b"data: " + json.dumps(content).encode() + b"\n\n"
    return b"%x\r\n%s\r\n" % (len(data), data)


def words(count: int) -> list[str]:
    """Return the chunks of an answer; a lost or repeated one shows in the numbers."""
    return [f"w{index} " for index in range(count)]


class Stream:
    """The bytes of streamed answers of one length, made once."""

    def __init__(self, chunks: int) -> None:
        head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "mock"}
        texts = [{"index": 0, "delta": {"content": word}, "finish_reason": None} for word in words(chunks)]
        texts[0]["delta"]["role"] = "assistant"  # type: ignore[index]
        self._head = head
        self.pieces = [_event({**head, "choices": [choice]}) for choice in texts]
        self.last = _event({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})

    def usage(self, prompt: int) -> bytes:
        """Return the events after the last text."""
        done = b"data: [DONE]\n\n"
        usage = {
            "prompt_tokens": prompt,
            "completion_tokens": len(self.pieces),
            "total_tokens": prompt + len(self.pieces),
        }
        told = _event({**self._head, "choices": [], "usage": usage})
        return self.last + told + b"%x\r\n%s\r\n" % (len(done), done) + END


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
            counts = {name: vars(each) for name, each in self._state.counts.items()}
            self._plain(200, counts)
        elif path == "/answers":
            self._state.chunks = json.loads(body)["chunks"]
            self._plain(200, {})
        else:
            self._complete(json.loads(body))

    def _complete(self, asked: dict[str, object]) -> None:
        messages: list[dict[str, str]] = asked["messages"]  # type: ignore[assignment]
        said = [word for message in messages for word in str(message["content"]).split()]
        counts = self._state.counts[str(messages[-1]["content"]).split(" ", 1)[0]]
        stream = self._streams.setdefault(self._state.chunks, Stream(self._state.chunks))
        failure = self._state.failing()
        if failure in ("refused", "limited", "page"):
            counts.failed += 1
            self._refuse(failure)
            return
        counts.answered += 1
        counts.prompt += len(said)
        counts.completion += len(stream.pieces)
        if asked.get("stream"):
            self._stream(stream, len(said), failure, counts)
        else:
            self._whole(stream, len(said))

    def _refuse(self, failure: str) -> None:
        if failure == "page":
            page = b"<html>Bad gateway</html>"
            head = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n" % len(page)
            self._write(head + page)
        elif failure == "limited":
            self._plain(429, {"error": {"type": "rate_limit_exceeded"}}, b"Retry-After: 0\r\n")
        else:
            self._plain(503, {"error": {"type": "server_error"}})

    def _stream(self, stream: Stream, prompt: int, failure: str, counts: Counts) -> None:
        if failure == "broken":
            kept = random.randrange(len(stream.pieces))
            counts.completion += kept - len(stream.pieces)
            self._write(OK + b"".join(stream.pieces[:kept]))
            if self._transport:
                self._transport.close()
            return
        if failure == "unreported":
            self._write(OK + b"".join(stream.pieces) + stream.last + END)
            return
        self._write(OK)
        for piece in stream.pieces:
            self._write(piece)
        self._write(stream.usage(prompt))

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


def chaos(seed: int, share: float) -> Callable[[], str]:
    """Return what happens to the next request; empty where nothing does."""
    drawn = random.Random(seed)
    return lambda: drawn.choice(FAILURES) if drawn.random() < share else ""


async def serve(port: int, chunks: int, failing: Callable[[], str]) -> None:
    """Serve until cancelled."""
    state, streams = State(chunks, failing), dict[int, Stream]()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(state, streams), "127.0.0.1", port)
    async with server:
        await server.serve_forever()


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--chunks", type=int, default=32)
    parser.add_argument("--chaos", type=int)
    parser.add_argument("--share", type=float, default=0.2)
    given = parser.parse_args()
    failing = (lambda: "") if given.chaos is None else chaos(given.chaos, given.share)
    uvloop.run(serve(given.port, given.chunks, failing))


if __name__ == "__main__":
    main()
