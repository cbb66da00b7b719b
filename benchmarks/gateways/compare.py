"""Forward beside LiteLLM's proxy and Portkey's gateway: the same provider, the same requests, in turns.

uv run python benchmarks/gateways/compare.py [--seconds 8] [--rounds 3] [--h2load]
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import h2load
import rivals
from front import PRICE
from load import Ask, Run, load, over_grpc, over_http
from mock_answers import words
from rich.console import Console
from rich.table import Table

from weir.cli.verification.installation import Part, installed

# Kinds of load and the chunks of their answers: at CONNECTIONS, and at one.
CHUNKS = 32
KINDS = {"stream": CHUNKS, "plain": 1, "one": 1}
CONNECTIONS = 16
WARM_S = 1.5


class Load(Protocol):
    """Loads a contender."""

    async def __call__(self, *, connections: int, seconds: float, expected: str) -> Run:
        """Ask as fast as answers come."""
        ...


@dataclass
class Contender:
    """A way to the provider: its load and its runs, by kind."""

    name: str
    loads: dict[str, Load]
    runs: dict[str, list[Run]] = field(default_factory=lambda: defaultdict(list))

    def rate(self, kind: str) -> float:
        """Return the median of the requests a second."""
        return float(statistics.median(run.rate for run in self.runs[kind]))

    def ms(self, kind: str, share: float) -> float:
        """Return the median of a quantile of the milliseconds."""
        return 1e3 * statistics.median(run.quantile(share) for run in self.runs[kind])


@asynccontextmanager
async def proxy(address: str) -> AsyncIterator[str]:
    """Run the frontier proxy in front of ``address``; yields its target."""
    provider = {
        "kind": "openai_compatible",
        "base_url": f"{address}/v1",
        "models": ["mock"],
        "allow_private": True,
    }
    settings = {
        "tiers": {"frontier": {"model_id": "mock", "provider": "mock"}},
        "frontier": {"providers": {"mock": provider}, "prices": {"mock": PRICE}, "stand_in": False},
    }
    async with installed({"proxy": Part("frontier_proxy", settings)}, {}) as running:
        yield running["proxy"].target


class Clients:
    """Makes loads: by clients in Python, which read every answer, or by h2load."""

    def __init__(self, stack: AsyncExitStack, address: str, *, raw: bool) -> None:
        self._stack, self._address, self._raw = stack, address, raw

    async def grpc(self, target: str) -> Load:
        """Return the load on the frontier proxy."""
        if self._raw:
            return h2load.over_grpc(target, self._address).load
        return await self._asking(over_grpc(target))

    async def http(self, door: rivals.Door, *, stream: bool) -> Load:
        """Return the load on another gateway."""
        if self._raw:
            return h2load.over_http(door, self._address, stream=stream).load
        return await self._asking(over_http(door, stream=stream))

    async def _asking(self, client: AbstractAsyncContextManager[Ask]) -> Load:
        return partial(load, await self._stack.enter_async_context(client))


async def contenders(stack: AsyncExitStack, address: str, clients: Clients) -> list[Contender]:
    """Start everything."""
    target = await stack.enter_async_context(proxy(address))
    found = [Contender("Weir", dict.fromkeys(KINDS, await clients.grpc(target)))]
    doors = [
        rivals.Door("provider", f"{address}/v1/chat/completions"),
        await stack.enter_async_context(rivals.portkey(address)),
        await stack.enter_async_context(rivals.litellm(address)),
    ]
    for door in doors:
        plain = await clients.http(door, stream=False)
        loads = {"plain": plain, "one": plain}
        if door.streams:
            loads["stream"] = await clients.http(door, stream=True)
        found.append(Contender(door.name, loads))
    return found


async def measure(address: str, found: Sequence[Contender], rounds: int, seconds: float) -> None:
    """Load each in turns."""
    for kind, chunks in KINDS.items():
        await rivals.answers_of(address, chunks)
        expected = "".join(words(chunks))
        able = [each for each in found if kind in each.loads]
        connections = 1 if kind == "one" else CONNECTIONS
        for each in able:
            await each.loads[kind](connections=connections, seconds=WARM_S, expected=expected)
        for _ in range(rounds):
            for each in able:
                run = await each.loads[kind](connections=connections, seconds=seconds, expected=expected)
                each.runs[kind].append(run)


def show(found: Sequence[Contender]) -> None:
    """Print figures and ratios."""
    table = Table("", "stream, req/s", "plain, req/s", "one connection, ms: median", "p99", "wrong texts")
    for each in found:
        wrong = sum(run.wrong for runs in each.runs.values() for run in runs)
        table.add_row(
            each.name,
            f"{each.rate('stream'):.0f}" if each.runs["stream"] else "-",
            f"{each.rate('plain'):.0f}",
            f"{each.ms('one', 0.5):.2f}",
            f"{each.ms('one', 0.99):.2f}",
            str(wrong),
        )
    console = Console()
    console.print(table)
    weir, direct, portkey, litellm = found
    figures = [
        ("streams ÷ LiteLLM", weir.rate("stream") / litellm.rate("stream"), ">= 15"),
        ("plain ÷ Portkey", weir.rate("plain") / portkey.rate("plain"), ">= 1"),
        ("plain ÷ LiteLLM", weir.rate("plain") / litellm.rate("plain"), ">= 7"),
        ("added at one connection, median ms", weir.ms("one", 0.5) - direct.ms("one", 0.5), "<= 2"),
        ("added at one connection, p99 ms", weir.ms("one", 0.99) - direct.ms("one", 0.99), "<= 6"),
    ]
    for what, value, target in figures:
        console.print(f"{what}: {value:.2f}  (target {target})")


async def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--h2load", action="store_true", help="load by h2load in place of Python's clients")
    given = parser.parse_args()
    async with AsyncExitStack() as stack:
        address = await stack.enter_async_context(rivals.provider("--chunks", str(CHUNKS)))
        found = await contenders(stack, address, Clients(stack, address, raw=given.h2load))
        await measure(address, found, given.rounds, given.seconds)
    show(found)


if __name__ == "__main__":
    asyncio.run(main())
