"""Is verified greedy text the verifier's own? 50 real prompts, three drafters, one table.

uv run python benchmarks/lossless.py [PROMPTS [TOKENS]]

Each prompt is decoded by the verifier model alone, then verified against the drafts of a real worker, and
against drafts with every third token wrong. Where a text differs, the first differing token is listed with
the gap, in nats, between the verifier's two best candidates there: a near tie is one of at most 0.02.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import structlog
from rich.console import Console
from rich.table import Table

from weir.common.app import App
from weir.common.calls import connect, stream_from, unary
from weir.common.config import Settings
from weir.common.config.model import EMBEDDED_MODEL, Models, Service
from weir.models.store import ModelStore
from weir.slm_worker.app import build as build_worker
from weir.v1 import slm_worker_pb2, slm_worker_pb2_grpc, types_pb2, verifier_pb2, verifier_pb2_grpc
from weir.verifier.app import build as build_verifier

DATA = Path(__file__).parent / "data"
PROMPTS, TOKENS = 50, 64
NEAR_TIE = 0.02


@dataclass
class Corrupted(slm_worker_pb2_grpc.SlmWorkerServiceServicer):
    """Drafts the reference with every third token wrong; without a reference, nothing."""

    tokenizer_sha256: str = ""
    reference: Sequence[int] = ()

    async def Draft(  # noqa: N802
        self, request_iterator: Any, context: Any
    ) -> AsyncIterator[slm_worker_pb2.DraftResponse]:
        del context
        start = (await anext(request_iterator)).start
        said: list[int] = []
        sequence = 0
        while ids := self._next(len(said), start.chunk_tokens):
            tokens = [types_pb2.Token(id=token) for token in ids]
            chunk = slm_worker_pb2.DraftChunk(
                sequence=sequence, tokens=tokens, tokenizer_sha256=self.tokenizer_sha256
            )
            yield slm_worker_pb2.DraftResponse(chunk=chunk)
            if (request := await anext(request_iterator, None)) is None:
                return
            said += [*ids[: request.ack.accepted], *request.ack.correction]
            sequence += 1

    def _next(self, start: int, count: int) -> list[int]:
        known = self.reference[start : start + count]
        return [token + (index % 3 == 2) for index, token in enumerate(known, start=start)]


@dataclass
class Tally:
    """What one drafter led to."""

    equal: int = 0
    near_ties: int = 0
    different: int = 0
    drafted: int = 0
    accepted: int = 0
    rounds: int = 0
    tokens: int = 0
    seconds: float = 0.0
    listed: list[str] = field(default_factory=list)


async def _generate(stub: Any, prompt: types_pb2.Prompt) -> tuple[list[types_pb2.Token], Any]:
    request = verifier_pb2.GenerateVerifiedRequest(prompt=prompt)
    tokens: list[types_pb2.Token] = []
    async with stream_from(stub.GenerateVerified, request) as responses:
        async for response in responses:
            tokens += response.delta.tokens
    return tokens, response.finished


def _common(a: Sequence[types_pb2.Token], b: Sequence[types_pb2.Token]) -> int:
    pairs = enumerate(zip(a, b, strict=False))
    return next((i for i, (x, y) in pairs if x.id != y.id), min(len(a), len(b)))


async def _compare(
    tally: Tally, stub: Any, name: str, prompt: types_pb2.Prompt, reference: Sequence[types_pb2.Token]
) -> list[types_pb2.Token]:
    """Generate and take the outcome into the tally; returns the tokens."""
    started = time.perf_counter()
    tokens, finished = await _generate(stub, prompt)
    tally.seconds += time.perf_counter() - started
    tally.rounds += finished.rounds
    tally.tokens += len(tokens)
    for usage in finished.usage:
        tally.drafted += usage.drafted_tokens
        tally.accepted += usage.accepted_tokens
    if [token.id for token in tokens] == [token.id for token in reference or tokens]:
        tally.equal += 1
        return tokens
    at = _common(tokens, reference)
    best, second = reference[min(at, len(reference) - 1)].top
    near = best.logprob - second.logprob <= NEAR_TIE
    tally.near_ties += near
    tally.different += not near
    tally.listed.append(f"{name}: token {at}, gap {best.logprob - second.logprob:.4f} nats")
    return tokens


def _prompts(count: int, tokens: int) -> list[tuple[str, types_pb2.Prompt]]:
    """Return prompts of all sources, evenly spread over the files."""
    rows = [
        json.loads(line)
        for name in ("mt_bench.jsonl", "mixed.jsonl")
        for line in (DATA / name).read_text(encoding="utf-8").splitlines()
    ]
    step = max(1, len(rows) // count)
    chosen = rows[::step][:count]
    sampling = types_pb2.SamplingParams(max_tokens=tokens, temperature=0)
    return [
        (
            row["id"],
            types_pb2.Prompt(
                messages=[types_pb2.Message(role=types_pb2.ROLE_USER, content=row["turns"][0])],
                sampling=sampling,
            ),
        )
        for row in chosen
    ]


def _settings(**services: Any) -> Settings:
    quick = {"port": 0, "drain_delay_s": 0, "drain_grace_s": 1}
    return Settings.model_validate({"services": {name: {**quick, **more} for name, more in services.items()}})


@asynccontextmanager
async def _verifier(worker: str) -> AsyncIterator[Any]:
    app = build_verifier(_settings(verifier={"slm_worker": [worker]}))
    async with app, connect(f"127.0.0.1:{app.port}") as channel:
        yield verifier_pb2_grpc.VerifierServiceStub(channel)


def _print(tallies: dict[str, Tally]) -> None:
    table = Table("drafts", "equal", "near ties", "different", "accepted", "tokens/round", "tokens/s")
    for name, tally in tallies.items():
        share = f"{tally.accepted / tally.drafted:.1%}" if tally.drafted else "-"
        table.add_row(
            name,
            str(tally.equal),
            str(tally.near_ties),
            str(tally.different),
            share,
            f"{tally.tokens / tally.rounds:.2f}",
            f"{tally.tokens / tally.seconds:.1f}",
        )
    console = Console()
    console.print(table)
    for name, tally in tallies.items():
        for line in tally.listed:
            console.print(f"{name}: {line}")


async def main(count: int = PROMPTS, tokens: int = TOKENS) -> int:
    """Print the table; returns the number of texts that differ by more than a near tie."""
    await ModelStore(Models()).pull(EMBEDDED_MODEL)
    names = ("verifier alone", "worker's drafts", "every third draft wrong")
    alone, honest, broken = tallies = [Tally() for _ in names]
    corrupted = Corrupted()  # type: ignore[abstract]

    def register(server: grpc.aio.Server) -> None:
        slm_worker_pb2_grpc.add_SlmWorkerServiceServicer_to_server(corrupted, server)

    double = App(
        "corrupted", Service(port=0, drain_delay_s=0), Settings(), register=register, grpc_services=[]
    )
    async with AsyncExitStack() as stack:
        worker = await stack.enter_async_context(build_worker(_settings(slm_worker={})))
        await stack.enter_async_context(double)
        channel = await stack.enter_async_context(connect(f"127.0.0.1:{worker.port}"))
        stub = slm_worker_pb2_grpc.SlmWorkerServiceStub(channel)
        info = await unary(stub.GetModelInfo, slm_worker_pb2.GetModelInfoRequest())
        corrupted.tokenizer_sha256 = info.tokenizer_sha256
        real = await stack.enter_async_context(_verifier(f"127.0.0.1:{worker.port}"))
        wrong = await stack.enter_async_context(_verifier(f"127.0.0.1:{double.port}"))
        for name, prompt in _prompts(count, tokens):
            corrupted.reference = ()
            reference = await _compare(alone, wrong, name, prompt, ())
            await _compare(honest, real, name, prompt, reference)
            corrupted.reference = [token.id for token in reference]
            await _compare(broken, wrong, name, prompt, reference)
    _print(dict(zip(names, tallies, strict=True)))
    return sum(tally.different for tally in tallies)


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    sys.exit(min(1, asyncio.run(main(*map(int, sys.argv[1:])))))
