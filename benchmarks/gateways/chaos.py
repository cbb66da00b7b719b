"""Providers that fail in every way: are answers whole, is the ledger right, does memory stay?

uv run python benchmarks/gateways/chaos.py                                   # 5,000 requests, all fates
uv run python benchmarks/gateways/chaos.py --kill                            # and processes that die
uv run python benchmarks/gateways/chaos.py --requests 1000 --fates broken    # every stream breaks once
uv run python benchmarks/gateways/chaos.py --requests 1000 --fates killed --at-once 1
uv run python benchmarks/gateways/chaos.py --requests 10000 --fates fine,held --weights 9,1

Each request is sent to model a, whose fate is drawn, with model b behind it. An answer must be the whole row
of numbers, or its beginning where the client left; what the ledger has settled must be what the two providers
say that they have sent, to the token. Of a killed provider the process dies, and with it every stream that it
has; the next one takes its place, and its count. No client leaves then: what is cancelled on its way to a
provider is paid for, whether it arrived or not, so that sums would differ by such prompts.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack

import grpc
import rivals
from front import Counts, Front, front, providers
from mock_answers import words
from rich.console import Console

from weir.cli.verification.processes import resident_mib

CHUNKS = 64
# Memory is compared between this share of all requests and their end.
EARLY = 0.2
# Nothing tells a client that its request has reached the provider; it has by then.
ARRIVAL_S = 0.3
FAILING = ("fine", "refused", "limited", "page", "silent", "unreported", "broken")
FATES = (*FAILING, "held")


class Run:
    """Requests with their fates, and what came of them."""

    def __init__(self, door: Front, seed: int, fates: Sequence[str], weights: Sequence[float]) -> None:
        self._door, self._drawn = door, random.Random(seed)
        self._fates, self._weights = fates, weights
        self.outcomes: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.failed = self.switches = 0

    async def ask(self, number: int) -> None:
        """Send one request and look at its answer."""
        fate = self._drawn.choices(self._fates, self._weights)[0]
        until = self._drawn.randrange(CHUNKS)
        prompt = f"request {number} a:{fate}@{until} b:fine"
        try:
            text, whole = await self._read(prompt, until if fate == "held" else None)
        except grpc.aio.AioRpcError as error:
            self.failed += 1
            self.outcomes[f"{fate}: {error.code().name}"] += 1
            return
        expected = "".join(words(CHUNKS))
        if text != expected if whole else not expected.startswith(text):
            self.wrong.append(f"{prompt}: {text}")
        self.outcomes[f"{fate}: {'whole' if whole else 'left'}"] += 1

    async def _read(self, prompt: str, leave_after: int | None) -> tuple[str, bool]:
        call = self._door.ask(prompt)
        text = ""
        if leave_after == 0:
            await asyncio.sleep(ARRIVAL_S)
            call.cancel()
            return text, False
        async for response in call:
            text += response.delta.text
            self.switches += response.HasField("handoff")
            if leave_after is not None and len(text) >= 4 * leave_after:
                call.cancel()
                return text, False
        return text, True


async def all_of(run: Run, numbers: range, at_once: int) -> None:
    """Send requests, so many at once."""
    places = asyncio.Semaphore(at_once)

    async def one(number: int) -> None:
        async with places:
            await run.ask(number)

    async with asyncio.TaskGroup() as tasks:
        for number in numbers:
            tasks.create_task(one(number))


def given() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=5000)
    parser.add_argument("--at-once", type=int, default=16)
    parser.add_argument("--fates", default=",".join(FATES))
    parser.add_argument(
        "--kill",
        action="store_const",
        dest="fates",
        const=",".join((*FAILING, "killed")),
        help="kill provider a's process too; no client leaves",
    )
    parser.add_argument("--weights")
    parser.add_argument("--pace-ms", type=float, default=1.0, help="between two chunks of an answer")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


async def main() -> int:
    """Run it; returns the exit status."""
    asked = given()
    fates = asked.fates.split(",")
    weights = [float(each) for each in asked.weights.split(",")] if asked.weights else [1.0] * len(fates)
    async with AsyncExitStack() as stack:
        options = "--chunks", str(CHUNKS), "--pace-ms", str(asked.pace_ms)
        addresses = await stack.enter_async_context(providers("ab", *options))
        door = await stack.enter_async_context(front(addresses))
        run = Run(door, asked.seed, fates, weights)
        early = round(EARLY * asked.requests)
        await all_of(run, range(early), asked.at_once)
        before = resident_mib(door.running.pid)
        await all_of(run, range(early, asked.requests), asked.at_once)
        after = resident_mib(door.running.pid)
        sent, settled = await door.sent(), await door.settled()
        kills = (await rivals.counts_of(addresses["a"]))["lives"] - 1
    return show(run, sent, settled, kills, f"{before:.0f} -> {after:.0f} MiB ({after / before - 1:+.1%})")


def show(run: Run, sent: Counts, settled: Counts, kills: int, memory: str) -> int:
    """Print it; returns 1 where an answer or the ledger is wrong."""
    console = Console()
    console.print(", ".join(f"{count} {what}" for what, count in sorted(run.outcomes.items())))
    console.print(f"provider's process killed: {kills}; models changed in mid-stream: {run.switches}")
    console.print(f"wrong texts: {len(run.wrong)}; requests that failed: {run.failed}")
    for line in run.wrong[:3]:
        console.print(line[:200])
    console.print(f"prompt tokens sent {sent.prompt:,}, settled {settled.prompt:,}")
    console.print(f"completion tokens sent {sent.completion:,}, settled {settled.completion:,}")
    console.print(f"memory of the proxy after {EARLY:.0%} and all: {memory}")
    wrong = run.wrong or run.failed
    return int(bool(wrong) or (sent.prompt, sent.completion) != (settled.prompt, settled.completion))


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
