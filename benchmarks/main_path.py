"""The main path against its targets: ratios from one run, alternating what is compared.

uv run python benchmarks/main_path.py
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

import grpc
import psutil
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parent))

from stack import Stack, running_stack

from weir.client import Message, Policy, Sampling, Tier, WeirClient
from weir.client.client import Generation
from weir.client.events import Delta, Finished
from weir.common.calls import connect
from weir.common.config.model import EMBEDDED_MODEL, LocalModel, Models
from weir.engines.base import ChatMessage, Engine, GenerationRequest
from weir.engines.base import Sampling as EngineSampling
from weir.engines.registry import create_engine
from weir.models.store import ModelStore
from weir.v1 import slm_worker_pb2, slm_worker_pb2_grpc, types_pb2

ROUNDS = 12
STREAMS, TOKENS = 8, 256
SURGES = 32
SLM = Policy(allowed_tiers=[Tier.SLM])
SHORT = [
    "What is the capital of France?",
    "Give me three names for a bakery.",
    "Translate 'good morning' into Spanish.",
    "Why is the sky blue? Answer briefly.",
    "Write one sentence about the sea.",
    "What does a compiler do?",
    "Name two uses of salt.",
    "How many minutes are in a day?",
]


@dataclass(frozen=True, slots=True)
class Figure:
    what: str
    measured: str
    target: str
    met: bool


async def _engine_stream(engine: Engine, prompt: str, tokens: int, tag: str) -> tuple[int, float]:
    request = GenerationRequest(
        tag, (ChatMessage("user", prompt),), EngineSampling(max_tokens=tokens, temperature=0.0), logprobs=True
    )
    started, first, count = time.perf_counter(), 0.0, 0
    async with aclosing(engine.generate(request)) as steps:
        async for step in steps:
            if step.tokens and not first:
                first = time.perf_counter() - started
            count += len(step.tokens)
    return count, first


async def _chain_stream(client: WeirClient, prompt: str, tokens: int) -> tuple[int, float]:
    started, first, count = time.perf_counter(), 0.0, 0
    sampling = Sampling(max_tokens=tokens, temperature=0.0)
    async with client.generate([Message("user", prompt)], sampling=sampling, policy=SLM) as events:
        async for event in events:
            if isinstance(event, Delta) and not first:
                first = time.perf_counter() - started
            elif isinstance(event, Finished):
                count = event.usage[-1].completion_tokens
    return count, first


async def _rate(one: Callable[[int], Awaitable[tuple[int, float]]]) -> float:
    started = time.perf_counter()
    results = await asyncio.gather(*(one(index) for index in range(STREAMS)))
    return sum(count for count, _ in results) / (time.perf_counter() - started)


async def throughput(engine: Engine, client: WeirClient) -> Figure:
    """Eight streams, in turns in process and through router and worker."""
    ratios, rates = [], []
    for turn in range(ROUNDS + 1):
        direct = await _rate(
            lambda i: _engine_stream(engine, f"Write a long story about {SHORT[i]}", TOKENS, f"d{i}")
        )
        chain = await _rate(lambda i: _chain_stream(client, f"Write a long story about {SHORT[i]}", TOKENS))
        if turn:  # the first turn warms both up
            ratios.append(chain / direct)
            rates.append((direct, chain))
    median = statistics.median(ratios)
    shown = ", ".join(f"{chain:.0f}/{direct:.0f}" for direct, chain in rates)
    return Figure(
        f"tokens/s at {STREAMS} streams: chain / in process",
        f"{median:.3f} ({shown})",
        ">= 0.95",
        median >= 0.95,
    )


async def first_token(engine: Engine, client: WeirClient) -> Figure:
    """One stream, prompts of at most 64 tokens, each new to both prefix caches."""
    added, direct_ms = [], []
    for turn in range(64):
        prompt = f"{SHORT[turn % len(SHORT)]} ({turn})"
        _, direct = await _engine_stream(engine, prompt, 2, f"t{turn}")
        _, chain = await _chain_stream(client, prompt, 2)
        if turn >= 4:
            added.append((chain - direct) * 1000)
            direct_ms.append(direct * 1000)
    median = statistics.median(added)
    text = f"{median:.1f} ms on top of {statistics.median(direct_ms):.1f} ms"
    return Figure("first token: chain - in process", text, "<= 8 ms", median <= 8)


async def route_latency(client: WeirClient, words: int, label: str, bound_ms: float) -> Figure:
    """Warm `Route` calls with prompts that are new each time."""
    times = []
    for turn in range(60):
        prompt = " ".join([f"question {turn} about bread"] + ["wheat"] * words)
        started = time.perf_counter()
        await client.route(prompt)
        times.append((time.perf_counter() - started) * 1000)
    median = statistics.median(times[10:])
    return Figure(f"Route at {label}", f"{median:.1f} ms", f"<= {bound_ms:.0f} ms", median <= bound_ms)


async def cancel(stack: Stack, client: WeirClient) -> Figure:
    """From the client's cancel to WatchLoad saying that nothing runs."""
    times = []
    async with connect(stack.target("slm_worker")) as channel:
        stub = slm_worker_pb2_grpc.SlmWorkerServiceStub(channel)
        for turn in range(20):
            loads = stub.WatchLoad(slm_worker_pb2.WatchLoadRequest())
            sampling = Sampling(max_tokens=2000, temperature=0.0)
            events = client.generate(f"Write a long story, number {turn}.", sampling=sampling, policy=SLM)
            await _first_delta(events)
            while (await loads.read()).running == 0:
                pass
            started = time.perf_counter()
            await events.aclose()
            while (await loads.read()).running:
                pass
            times.append((time.perf_counter() - started) * 1000)
            loads.cancel()
    worst, median = max(times), statistics.median(times)
    return Figure(
        "client cancel to engine stopped", f"{median:.0f} ms, worst {worst:.0f} ms", "<= 100 ms", worst <= 100
    )


async def _first_delta(events: Generation) -> None:
    async for event in events:
        if isinstance(event, Delta):
            return


def _memory_mib(pid: int) -> float:
    processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return sum(process.memory_info().rss for process in processes) / 2**20


async def surge(stack: Stack) -> Figure:
    """250 streams at once on one worker, over and over; the prefix cache fills its gigabyte on the way."""
    outcomes: dict[str, int] = {}
    message = types_pb2.Message(role=types_pb2.ROLE_USER, content="Name a color.")
    sampling = types_pb2.SamplingParams(max_tokens=16)
    request = slm_worker_pb2.CompleteRequest(prompt=types_pb2.Prompt(messages=[message], sampling=sampling))

    async def one(stub: slm_worker_pb2_grpc.SlmWorkerServiceAsyncStub) -> None:
        try:
            async for _ in stub.Complete(request):
                pass
            outcome = "served"
        except grpc.aio.AioRpcError as error:
            refused = error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED and "RetryInfo" in str(
                error.trailing_metadata()
            )
            outcome = "refused with RetryInfo" if refused else f"failed {error.code().name}"
        outcomes[outcome] = outcomes.get(outcome, 0) + 1

    memory = []
    async with connect(stack.target("slm_worker")) as channel:
        stub = slm_worker_pb2_grpc.SlmWorkerServiceStub(channel)
        for _ in range(SURGES):
            await asyncio.gather(*(one(stub) for _ in range(250)))
            memory.append(_memory_mib(stack.pid))
    clean = not any(name.startswith("failed") for name in outcomes)
    flat = memory[-1] <= memory[-SURGES // 4] * 1.02
    text = ", ".join(f"{name} {count}" for name, count in sorted(outcomes.items()))
    sizes = " -> ".join(f"{size:.0f}" for size in memory[:: SURGES // 8])
    return Figure(
        f"{SURGES} x 250 streams on one worker",
        f"{text}; memory {sizes} MiB",
        "served or refused, flat",
        clean and flat,
    )


async def _figures() -> AsyncIterator[Figure]:
    async with running_stack() as stack, WeirClient(stack.target("router")) as client:
        yield Figure(
            "`weir up` to its first answer", f"{stack.start_s:.1f} s", "<= 20 s", stack.start_s <= 20
        )
        engine = create_engine(EMBEDDED_MODEL, LocalModel(), ModelStore(Models()), max_context=8192)
        await engine.start()
        try:
            yield await first_token(engine, client)
            yield await throughput(engine, client)
        finally:
            await engine.aclose()
        yield await route_latency(client, 30, "<= 64 tokens", 6)
        yield await route_latency(client, 500, "512 tokens", 40)
        yield await cancel(stack, client)
        yield await surge(stack)


async def main() -> None:
    table = Table("what", "measured", "target", "met", title="Main path")
    async for figure in _figures():
        print(f"{figure.what}: {figure.measured} (target {figure.target})", flush=True)
        table.add_row(figure.what, figure.measured, figure.target, "yes" if figure.met else "NO")
    Console(width=160).print(table)


if __name__ == "__main__":
    asyncio.run(main())
