"""How soon a provider's stream is closed once its client cancels, and what the ledger then has of it.

uv run python benchmarks/gateways/cancel.py [--requests 400]

Milliseconds from the client's ``cancel`` to the provider seeing its connection closed, by one clock, at one
and at 16 requests at once; beside it, in turns, a client of the provider itself that closes its connection.
Where the provider is silent nothing is on its way, and what was sent is what is settled; where it is busy,
what it wrote until it saw the end comes on top.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import random
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import aiohttp
from front import Front, front, providers
from rich.console import Console
from rich.table import Table

TARGET_MS = 100.0
CHUNKS = 1000
AT = 8
# Kinds of providers, by what a prompt says to them.
KINDS = {"before its first text": "late@5000", "silent": f"held@{AT}", "busy": "fine"}
# Nothing tells a client that a request has reached the provider; it has by then.
ARRIVAL_S = 0.2
# Requests of a cell at a turn.
TURN = 50

# Sends a prompt, reads so much text, waits so many seconds and leaves; returns when (monotonic seconds).
Leave = Callable[[str, int, float], Awaitable[float]]


def through(door: Front) -> Leave:
    """Return a client of the proxy."""

    async def leave(prompt: str, length: int, linger_s: float) -> float:
        call, text = door.ask(prompt), ""
        while len(text) < length:
            text += (await call.read()).delta.text
        await asyncio.sleep(linger_s)
        at = time.monotonic()
        call.cancel()
        return at

    return leave


def beside(session: aiohttp.ClientSession, address: str) -> Leave:
    """Return a client of the provider."""

    async def leave(prompt: str, length: int, linger_s: float) -> float:
        body = {"model": "mock", "stream": True, "messages": [{"role": "user", "content": prompt}]}
        response = await session.post(f"{address}/v1/chat/completions", json=body)
        if length:
            await response.content.readuntil(f"{length // 4 - 1:03d} ".encode())
        await asyncio.sleep(linger_s)
        at = time.monotonic()
        response.close()
        return at

    return leave


@dataclass
class Cell:
    """One kind at one number of requests at once: when who left, and what was sent and settled."""

    kind: str
    at_once: int
    left: dict[str, dict[int, float]] = field(default_factory=lambda: {"proxy": {}, "direct": {}})
    sent: int = 0
    settled: int = 0

    async def turn(self, way: str, leave: Leave, numbers: range, drawn: random.Random) -> None:
        """Send requests and leave them."""
        upcoming, length = iter(numbers), 0 if KINDS[self.kind].startswith("late") else 4 * AT

        async def one() -> None:
            for number in upcoming:
                # At any point between two chunks, and not all at once.
                linger_s = drawn.uniform(0, 0.02) + (0 if length else ARRIVAL_S)
                prompt = f"request {number} a:{KINDS[self.kind]}"
                self.left[way][number] = await leave(prompt, length, linger_s)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(self.at_once):
                tasks.create_task(one())


def delays(left: dict[int, float], seen: dict[str, float]) -> list[float]:
    """Return the milliseconds from leaving to being seen to have left, in order."""
    return sorted(1e3 * (seen[str(number)] - at) for number, at in left.items() if str(number) in seen)


def quantiles(ms: list[float]) -> tuple[str, ...]:
    """Return median, 99th percentile and largest of what is sorted."""
    return tuple(f"{ms[min(len(ms) - 1, int(share * len(ms)))]:.1f}" for share in (0.5, 0.99, 1.0))


async def measure(door: Front, cell: Cell, ways: dict[str, Leave], numbers: range, seed: int) -> None:
    """Fill a cell."""
    drawn = random.Random(seed)
    turns = [numbers[start : start + TURN] for start in range(0, len(numbers), TURN)]
    for asked in turns:
        await cell.turn("direct", ways["direct"], asked, drawn)
        # Both see the same numbers; those of the proxy are higher.
        sent, settled = await door.sent(), await door.settled()
        shift = len(numbers)
        await cell.turn("proxy", ways["proxy"], range(asked.start + shift, asked.stop + shift), drawn)
        await asyncio.sleep(0.5)
        cell.sent += (await door.sent()).completion - sent.completion
        cell.settled += (await door.settled()).completion - settled.completion


async def times_of(address: str) -> dict[str, dict[str, float]]:
    """Return when the provider began its streams, and when it saw them closed."""
    async with aiohttp.ClientSession() as session, session.get(f"{address}/times") as response:
        found: dict[str, dict[str, float]] = await response.json()
        return found


def show(cells: list[Cell], seen: dict[str, dict[str, float]]) -> int:
    """Print it; returns 1 where a stream stayed open, or the target is missed."""
    titles = (
        "the provider is",
        "at once",
        "cancelled",
        "median, ms",
        "p99",
        "most",
        "never asked",
        "not closed",
    )
    table = Table(*titles, "direct: median", "p99", "most", "tokens sent", "settled")
    missed = 0
    for cell in cells:
        ms, direct = (delays(cell.left[way], seen["left"]) for way in ("proxy", "direct"))
        asked = sum(str(number) in seen["begun"] for number in cell.left["proxy"])
        missed += asked - len(ms) + sum(each > TARGET_MS for each in ms)
        counts = str(len(cell.left["proxy"]) - asked), str(asked - len(ms))
        figures = *quantiles(ms), *counts, *quantiles(direct), f"{cell.sent:,}", f"{cell.settled:,}"
        table.add_row(cell.kind, str(cell.at_once), str(len(cell.left["proxy"])), *figures)
    console = Console(width=160)
    console.print(table)
    console.print(f"later than {TARGET_MS:.0f} ms, or never: {missed}")
    return int(missed > 0)


async def main() -> int:
    """Run it; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=400, help="of each kind")
    parser.add_argument("--pace-ms", type=float, default=5.0, help="between two chunks of an answer")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    cells = [Cell(kind, at_once) for kind, at_once in itertools.product(KINDS, (1, 16))]
    async with AsyncExitStack() as stack:
        options = "--chunks", str(CHUNKS), "--pace-ms", str(given.pace_ms)
        addresses = await stack.enter_async_context(providers("a", *options))
        door = await stack.enter_async_context(front(addresses))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        ways = {"proxy": through(door), "direct": beside(session, addresses["a"])}
        for place, cell in enumerate(cells):
            start = 2 * place * given.requests
            await measure(door, cell, ways, range(start, start + given.requests), given.seed)
        seen = await times_of(addresses["a"])
    return show(cells, seen)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
