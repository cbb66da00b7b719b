"""What hedging gains and costs: the same requests with and without it, while first tokens are sometimes late.

uv run python benchmarks/gateways/hedging.py [--requests 2000] [--late 0.03]

Two proxies ask the same two providers, in turns; one hedges. Each provider's first token comes after 50 ms,
and of a share of all requests after 800 ms, drawn for each provider by itself and alike for both proxies.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from front import Counts, Front, front, providers
from mock_answers import words
from rich.console import Console
from rich.table import Table

CHUNKS = 32
AT_ONCE = 8
# Requests that each proxy is sent at a turn.
TURN = 100
USUAL_MS, LATE_MS = 50, 800
QUANTILES = (0.5, 0.9, 0.95, 0.99)


@dataclass
class Side:
    """A proxy, and what came of its requests: seconds to the first text, and wrong texts."""

    name: str
    cap: float
    door: Front
    first_s: list[float] = field(default_factory=list)
    wrong: int = 0
    settled: Counts = field(default_factory=Counts)

    async def ask(self, prompt: str) -> None:
        """Send one request; each answer's length is what it may have, so that bounds are near to costs."""
        begun, text = time.perf_counter(), ""
        async for response in self.door.ask(prompt, max_tokens=CHUNKS):
            if response.delta.text and not text:
                self.first_s.append(time.perf_counter() - begun)
            text += response.delta.text
        self.wrong += text != "".join(words(CHUNKS))

    def ms(self, share: float) -> float:
        """Return a quantile of the milliseconds to the first text."""
        return 1e3 * sorted(self.first_s)[min(len(self.first_s) - 1, int(share * len(self.first_s)))]


def prompts(count: int, late: float, seed: int) -> list[str]:
    """Return prompts; a share of them is late at each provider."""
    drawn = random.Random(seed)

    def wait() -> int:
        return LATE_MS if drawn.random() < late else USUAL_MS

    return [f"request {number} a:late@{wait()} b:late@{wait()}" for number in range(count)]


async def turn(side: Side, asked: Sequence[str]) -> None:
    """Send prompts, so many at once."""
    upcoming = iter(asked)

    async def one() -> None:
        for prompt in upcoming:
            await side.ask(prompt)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(AT_ONCE):
            tasks.create_task(one())


def show(sides: Sequence[Side], sent: Counts) -> int:
    """Print it; returns 1 where a text, the ledger or a cap is wrong."""
    titles = ("", *(f"p{share * 100:.0f}, ms" for share in QUANTILES), "most", "asked twice", "spent, USD")
    table = Table(*titles, "added", "cap")
    plain = sides[0]
    over = False
    for side in sides:
        quantiles = (f"{side.ms(share):.0f}" for share in QUANTILES)
        added = side.settled.usd - plain.settled.usd
        # The cap is one on hedges' part of all that is spent.
        share = added / side.settled.usd
        over = over or share > side.cap
        figures = *quantiles, f"{1e3 * max(side.first_s):.0f}", str(side.settled.requests - len(side.first_s))
        table.add_row(side.name, *figures, f"{side.settled.usd:.4f}", f"{share:.2%}", f"{side.cap:.1%}")
    console = Console(width=120)
    console.print(table)
    for side in sides[1:]:
        console.print(f"p99 without ÷ {side.name}: {plain.ms(0.99) / side.ms(0.99):.1f}")
    settled = [sum(getattr(side.settled, name) for side in sides) for name in ("prompt", "completion")]
    console.print(
        f"tokens sent {sent.prompt:,} + {sent.completion:,}, settled {settled[0]:,} + {settled[1]:,}"
    )
    wrong = sum(side.wrong for side in sides)
    console.print(f"wrong texts: {wrong}")
    return int(wrong > 0 or over or settled != [sent.prompt, sent.completion])


async def main() -> int:
    """Run it; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--late", type=float, default=0.03, help="the share of late first tokens")
    parser.add_argument("--caps", default="0.05,0.005", help="shares of the spending that hedges may add")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    caps = [float(cap) for cap in given.caps.split(",")]
    asked = prompts(given.requests, given.late, given.seed)
    async with AsyncExitStack() as stack:
        addresses = await stack.enter_async_context(providers("ab", "--chunks", str(CHUNKS)))
        sides = [Side("without", 0.0, await stack.enter_async_context(front(addresses)))]
        for cap in caps:
            hedging = {"enabled": True, "max_spend_share": cap}
            door = await stack.enter_async_context(front(addresses, hedging=hedging))
            sides.append(Side(f"with, cap {cap:.1%}", cap, door))
        for start in range(0, given.requests, TURN):
            for side in sides:
                await turn(side, asked[start : start + TURN])
        sent = await sides[0].door.sent()
        for side in sides:
            side.settled = await side.door.settled()
    return show(sides, sent)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
