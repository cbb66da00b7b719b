"""Load on a gateway: so many connections for so long, each asking again when it has its answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
import grpc
from rivals import Door

from weir.common.calls import connect
from weir.v1 import frontier_proxy_pb2, frontier_proxy_pb2_grpc, types_pb2

# Sends one prompt and returns the text of its answer.
Ask = Callable[[str], Awaitable[str]]
PROMPT = "What does a weir do to a river?"


@dataclass
class Run:
    """What came of it: requests answered, each one's seconds, and those with another text than expected."""

    seconds: float = 0.0
    times: list[float] = field(default_factory=list)
    wrong: int = 0

    @property
    def rate(self) -> float:
        """Requests a second."""
        return len(self.times) / self.seconds

    def quantile(self, share: float) -> float:
        """Return a quantile of the times."""
        ordered = sorted(self.times)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


async def load(ask: Ask, *, connections: int, seconds: float, expected: str) -> Run:
    """Ask as fast as the answers come."""
    run, until = Run(), time.perf_counter() + seconds

    async def one() -> None:
        while (begun := time.perf_counter()) < until:
            text = await ask(PROMPT)
            run.times.append(time.perf_counter() - begun)
            run.wrong += text != expected

    started = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(connections):
            tasks.create_task(one())
    run.seconds = time.perf_counter() - started
    return run


@asynccontextmanager
async def over_http(door: Door, *, stream: bool) -> AsyncIterator[Ask]:
    """Ask over HTTP; a stream's events are read, and their text is put together from the raw bytes."""
    body = {
        "model": "mock",
        "stream": stream,
        **({"stream_options": {"include_usage": True}} if stream else {}),
    }
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), headers={"authorization": "Bearer sk-none", **door.headers}
    ) as session:

        async def ask(prompt: str) -> str:
            sent = {**body, "messages": [{"role": "user", "content": prompt}]}
            async with session.post(door.url, json=sent) as response:
                if response.status != 200:
                    raise SystemExit(f"{door.name} answered {response.status}: {await response.text()}")
                if stream:
                    return _texts(await response.read())
                answer = await response.json()
                return str(answer["choices"][0]["message"]["content"])

        yield ask


def _texts(events: bytes) -> str:
    parts = events.split(b'"content":')[1:]
    return "".join(
        part.lstrip()[1:].split(b'"', 1)[0].decode() for part in parts if part.lstrip()[:1] == b'"'
    )


@asynccontextmanager
async def over_grpc(target: str) -> AsyncIterator[Ask]:
    """Ask the frontier proxy."""
    async with connect(target) as channel:
        stub = frontier_proxy_pb2_grpc.FrontierProxyServiceStub(channel)

        async def ask(prompt: str) -> str:
            messages = [types_pb2.Message(role=types_pb2.ROLE_USER, content=prompt)]
            request = frontier_proxy_pb2.ForwardRequest(prompt=types_pb2.Prompt(messages=messages))
            try:
                parts = [response.delta.text async for response in stub.Forward(request)]
            except grpc.aio.AioRpcError as error:
                raise SystemExit(f"The proxy answered {error.code().name}: {error.details()}") from None
            return "".join(parts)

        yield ask
