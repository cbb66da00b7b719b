"""The frontier proxy in a process of its own, in front of mock providers, and requests to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import rivals

from weir.cli.verification.installation import Part, Running, installed
from weir.common.calls import connect
from weir.v1 import frontier_proxy_pb2, frontier_proxy_pb2_grpc, types_pb2

PRICE = {"input_usd_per_million": 1, "output_usd_per_million": 4, "as_of": "2026-11-22"}
_NEVER = 1_000_000
_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Counts:
    """Tokens and requests, as providers or as the ledger have them; dollars as the ledger has them."""

    prompt: int = 0
    completion: int = 0
    requests: int = 0
    usd: float = 0.0


@dataclass(frozen=True, slots=True)
class Front:
    """A proxy that runs, and the addresses of the providers behind it by their names."""

    running: Running
    addresses: Mapping[str, str]
    stub: Any = field(repr=False)

    def ask(self, prompt: str, max_tokens: int = 0) -> Any:
        """Send a request to the first provider, with the others behind it; returns the call."""
        messages = [types_pb2.Message(role=types_pb2.ROLE_USER, content=prompt)]
        sampling = types_pb2.SamplingParams(max_tokens=max_tokens or None)
        asked = types_pb2.Prompt(messages=messages, sampling=sampling)
        return self.stub.Forward(frontier_proxy_pb2.ForwardRequest(prompt=asked), timeout=_TIMEOUT_S)

    async def sent(self) -> Counts:
        """Return what the providers say that they have sent, to whomever."""
        counts = [await rivals.counts_of(address) for address in self.addresses.values()]
        return Counts(*(sum(each[name] for each in counts) for name in ("prompt", "completion", "answered")))

    async def settled(self) -> Counts:
        """Return what the ledger has. Raises SystemExit where something is still reserved."""
        spend = (await self.stub.GetSpend(frontier_proxy_pb2.GetSpendRequest())).spend
        if reserved := sum(row.reserved_usd for row in spend):
            raise SystemExit(f"${reserved} is still reserved.")
        return Counts(
            sum(row.prompt_tokens for row in spend),
            sum(row.completion_tokens for row in spend),
            sum(row.attempts for row in spend),
            sum(row.settled_usd for row in spend),
        )


@asynccontextmanager
async def providers(names: Sequence[str], *options: str) -> AsyncIterator[dict[str, str]]:
    """Run mock providers; yields their addresses."""
    async with AsyncExitStack() as stack:
        yield {
            name: await stack.enter_async_context(rivals.provider("--name", name, *options)) for name in names
        }


@asynccontextmanager
async def front(addresses: Mapping[str, str], **frontier: Any) -> AsyncIterator[Front]:
    """Run the proxy in front of providers, which it never gives up; ``frontier`` are further settings."""
    settings = {
        "tiers": {"frontier": {"model_id": "mock-a", "provider": "a"}},
        "frontier": {
            "providers": {name: _provider(name, address) for name, address in addresses.items()},
            "prices": {f"mock-{name}": PRICE for name in addresses},
            "stand_in": False,
            "circuit_breaker": {"min_calls": _NEVER, "consecutive_failures": _NEVER},
            "retries": {"base_delay_s": 0.01},
            **frontier,
        },
    }
    async with (
        installed({"proxy": Part("frontier_proxy", settings)}, {}) as running,
        connect(running["proxy"].target) as channel,
    ):
        stub = frontier_proxy_pb2_grpc.FrontierProxyServiceStub(channel)
        yield Front(running["proxy"], addresses, stub)


def _provider(name: str, address: str) -> dict[str, Any]:
    return {
        "kind": "openai_compatible",
        "base_url": f"{address}/v1",
        "models": [f"mock-{name}"],
        "allow_private": True,
        "prefill": True,
        "first_token_timeout_s": 1,
        "inter_token_timeout_s": 1,
    }
