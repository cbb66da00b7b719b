"""What every part of the measurement works with: one pair of models, in services and in this process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weir.cli.verification import installation as inst
from weir.cli.verification.pair import Pair, pair_of
from weir.common.calls import connect
from weir.v1 import slm_worker_pb2_grpc, types_pb2, verifier_pb2_grpc


@dataclass(frozen=True, slots=True)
class Bench:
    """Stubs of the services by what they do, and the same models here.

    ``hybrid`` verifies what a worker drafts, ``solo`` is a verifier that writes alone, a token a
    pass, ``alone`` a worker
    that has the target as its model.
    """

    name: str
    hybrid: Any
    solo: Any
    alone: Any
    pair: Pair
    prompts: list[types_pb2.Prompt]


@asynccontextmanager
async def bench_of(drafter: Path, target: Path, prompts: list[types_pb2.Prompt]) -> AsyncIterator[Bench]:
    """Start everything for one target. Raises WeirError MODEL_UNAVAILABLE."""
    parts = {
        "hybrid": inst.verifier(target),
        "solo": inst.verifier(target, tier={"guesses": False}),
        "drafter": inst.worker(drafter),
        "alone": inst.worker(target),
    }
    async with AsyncExitStack() as stack:
        running = await stack.enter_async_context(inst.installed(parts, {"hybrid": "drafter"}))
        pair = await stack.enter_async_context(pair_of(drafter, target))
        yield Bench(
            target.stem,
            await verifier_at(stack, running["hybrid"]),
            await verifier_at(stack, running["solo"]),
            await worker_at(stack, running["alone"]),
            pair,
            prompts,
        )


async def verifier_at(stack: AsyncExitStack, running: inst.Running) -> Any:
    """Return a stub of a verifier; ``stack`` closes its channel."""
    return verifier_pb2_grpc.VerifierServiceStub(await stack.enter_async_context(connect(running.target)))


async def worker_at(stack: AsyncExitStack, running: inst.Running) -> Any:
    """Return a stub of a worker; ``stack`` closes its channel."""
    return slm_worker_pb2_grpc.SlmWorkerServiceStub(await stack.enter_async_context(connect(running.target)))
