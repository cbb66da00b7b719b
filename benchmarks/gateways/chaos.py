"""Providers that fail in every way: are answers whole, is the ledger right, does memory stay?

uv run python benchmarks/gateways/chaos.py                                   # 5,000 requests, all fates
uv run python benchmarks/gateways/chaos.py --requests 1000 --fates broken    # every stream breaks once
uv run python benchmarks/gateways/chaos.py --requests 10000 --fates fine,held --weights 9,1

Each request is sent to model a, whose fate is drawn, with model b behind it. An answer must be the whole row
of numbers, or its beginning where the client left; what the ledger has settled must be what the two providers
say that they have sent, to the token.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import grpc
import rivals
from mock_provider import words
from rich.console import Console

from weir.cli.verification.installation import Part, Running, installed
from weir.cli.verification.processes import resident_mib
from weir.common.calls import connect
from weir.v1 import frontier_proxy_pb2, frontier_proxy_pb2_grpc, types_pb2

CHUNKS = 64
AT_ONCE = 16
# Memory is compared between this share of all requests and their end.
EARLY = 0.2
FATES = ("fine", "refused", "limited", "page", "silent", "unreported", "broken", "held")
PRICE = {"input_usd_per_million": 1, "output_usd_per_million": 4, "as_of": "2026-11-22"}


@asynccontextmanager
async def proxy(addresses: dict[str, str]) -> AsyncIterator[Running]:
    """Run the frontier proxy in front of the providers, which are never given up."""
    providers = {
        name: {
            "kind": "openai_compatible",
            "base_url": f"{address}/v1",
            "models": [f"mock-{name}"],
            "allow_private": True,
            "prefill": True,
            "first_token_timeout_s": 1,
            "inter_token_timeout_s": 1,
        }
        for name, address in addresses.items()
    }
    never = 1_000_000
    settings = {
        "tiers": {"frontier": {"model_id": "mock-a", "provider": "a"}},
        "frontier": {
            "providers": providers,
            "prices": {f"mock-{name}": PRICE for name in addresses},
            "stand_in": False,
            "circuit_breaker": {"min_calls": never, "consecutive_failures": never},
            "retries": {"base_delay_s": 0.01},
        },
    }
    async with installed({"proxy": Part("frontier_proxy", settings)}, {}) as running:
        yield running["proxy"]


class Run:
    """Requests with their fates, and what came of them."""

    def __init__(self, stub: Any, seed: int, fates: Sequence[str], weights: Sequence[float]) -> None:
        self._stub, self._drawn = stub, random.Random(seed)
        self._fates, self._weights = fates, weights
        self.outcomes: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.switches = 0

    async def ask(self, number: int) -> None:
        """Send one request and look at its answer."""
        fate = self._drawn.choices(self._fates, self._weights)[0]
        until = self._drawn.randrange(CHUNKS)
        prompt = f"request {number} a:{fate}@{until} b:fine"
        try:
            text, whole = await self._read(prompt, until if fate == "held" else None)
        except grpc.aio.AioRpcError as error:
            self.outcomes[f"{fate}: {error.code().name}"] += 1
            return
        expected = "".join(words(CHUNKS))
        if text != expected if whole else not expected.startswith(text):
            self.wrong.append(f"{prompt}: {text}")
        self.outcomes[f"{fate}: {'whole' if whole else 'left'}"] += 1

    async def _read(self, prompt: str, leave_after: int | None) -> tuple[str, bool]:
        messages = [types_pb2.Message(role=types_pb2.ROLE_USER, content=prompt)]
        call = self._stub.Forward(
            frontier_proxy_pb2.ForwardRequest(prompt=types_pb2.Prompt(messages=messages)), timeout=60
        )
        text = ""
        if leave_after == 0:
            await call.initial_metadata()
        async for response in call:
            text += response.delta.text
            self.switches += response.HasField("handoff")
            if leave_after is not None and len(text) >= 4 * leave_after:
                call.cancel()
                return text, False
        return text, True


async def sent_and_settled(addresses: Sequence[str], stub: Any) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return prompt and completion tokens, as the providers and as the ledger have them."""
    counts = [await rivals.counts_of(address) for address in addresses]
    spend = (await stub.GetSpend(frontier_proxy_pb2.GetSpendRequest())).spend
    if reserved := sum(row.reserved_usd for row in spend):
        raise SystemExit(f"${reserved} is still reserved.")
    sent = sum(c["prompt"] for c in counts), sum(c["completion"] for c in counts)
    return sent, (sum(row.prompt_tokens for row in spend), sum(row.completion_tokens for row in spend))


async def all_of(run: Run, numbers: range) -> None:
    """Send requests, so many at once."""
    places = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> None:
        async with places:
            await run.ask(number)

    async with asyncio.TaskGroup() as tasks:
        for number in numbers:
            tasks.create_task(one(number))


async def main() -> int:
    """Run it; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=5000)
    parser.add_argument("--fates", default=",".join(FATES))
    parser.add_argument("--weights")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    fates = given.fates.split(",")
    weights = [float(each) for each in given.weights.split(",")] if given.weights else [1.0] * len(fates)
    async with AsyncExitStack() as stack:
        addresses = {
            name: await stack.enter_async_context(rivals.provider("--name", name, "--chunks", str(CHUNKS)))
            for name in ("a", "b")
        }
        running = await stack.enter_async_context(proxy(addresses))
        channel = await stack.enter_async_context(connect(running.target))
        stub = frontier_proxy_pb2_grpc.FrontierProxyServiceStub(channel)
        run = Run(stub, given.seed, fates, weights)
        early = round(EARLY * given.requests)
        await all_of(run, range(early))
        before = resident_mib(running.pid)
        await all_of(run, range(early, given.requests))
        after = resident_mib(running.pid)
        sent, settled = await sent_and_settled(list(addresses.values()), stub)
    return show(run, sent, settled, f"{before:.0f} -> {after:.0f} MiB ({after / before - 1:+.1%})")


def show(run: Run, sent: tuple[int, int], settled: tuple[int, int], memory: str) -> int:
    """Print it; returns 1 where an answer or the ledger is wrong."""
    console = Console()
    console.print(", ".join(f"{count} {what}" for what, count in sorted(run.outcomes.items())))
    console.print(f"models changed in mid-stream: {run.switches}; wrong texts: {len(run.wrong)}")
    for line in run.wrong[:3]:
        console.print(line[:200])
    console.print(f"prompt tokens sent {sent[0]:,}, settled {settled[0]:,}")
    console.print(f"completion tokens sent {sent[1]:,}, settled {settled[1]:,}")
    console.print(f"memory of the proxy after {EARLY:.0%} and all: {memory}")
    return int(bool(run.wrong) or sent != settled)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
