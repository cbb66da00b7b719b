"""`weir bench`: real prompts through a running router, with what each tier took and cost; verification."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from weir.cli.credentials import credentials
from weir.cli.verification.command import verify_command
from weir.client import Delta, Finished, Message, Policy, Sampling, Tier, WeirClient, WeirClientError
from weir.client.client import DEFAULT_TARGET

bench_app = typer.Typer(no_args_is_help=True)
bench_app.command("verify")(verify_command)


@bench_app.callback()
def bench() -> None:
    """Measure an installation."""


class Route(StrEnum):
    """Who answers: the router's own choice, or one tier for all."""

    AUTO = "auto"
    SLM = "slm"
    HYBRID = "hybrid"
    FRONTIER = "frontier"


@dataclass(frozen=True, slots=True)
class Answer:
    """One prompt's outcome; times in seconds, costs in US dollars."""

    tier: str
    tokens: int
    first_token_s: float
    total_s: float
    cost_usd: float
    frontier_usd: float
    stand_in: bool
    replay: bool


@dataclass(slots=True)
class Run:
    """All prompts by one route."""

    route: Route
    answers: list[Answer] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    wall_s: float = 0.0


def read_prompts(files: Sequence[Path]) -> list[str]:
    """Return the first turn of every line. Raises typer.BadParameter where a file is no prompt file."""
    prompts: list[str] = []
    for file in files:
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
            prompts += [json.loads(line)["turns"][0] for line in lines if line.strip()]
        except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
            raise typer.BadParameter(
                f"{file}: one JSON object with 'turns' a line is expected ({error})"
            ) from None
    return prompts


async def _ask(client: WeirClient, prompt: str, route: Route, max_tokens: int) -> Answer:
    policy = Policy() if route is Route.AUTO else Policy(allowed_tiers=[Tier(route)])
    sampling = Sampling(max_tokens=max_tokens)
    started, first = time.perf_counter(), 0.0
    end: Finished | None = None
    async with client.generate([Message("user", prompt)], sampling=sampling, policy=policy) as events:
        async for event in events:
            if isinstance(event, Delta) and not first:
                first = time.perf_counter() - started
            elif isinstance(event, Finished):
                end = event
    if end is None:
        raise EOFError("the stream ended without Finished")
    return _answer(end, first, time.perf_counter() - started)


def _answer(finished: Finished, first_s: float, total_s: float) -> Answer:
    last = finished.usage[-1] if finished.usage else None
    return Answer(
        tier=str(last.tier) if last and last.tier else "none",
        tokens=sum(usage.completion_tokens for usage in finished.usage),
        first_token_s=first_s,
        total_s=total_s,
        cost_usd=finished.cost_usd,
        frontier_usd=finished.frontier_cost_usd,
        stand_in=any(usage.stand_in for usage in finished.usage),
        replay=any(usage.replay for usage in finished.usage),
    )


async def _run(
    client: WeirClient, prompts: Sequence[str], route: Route, max_tokens: int, streams: int
) -> Run:
    run, places = Run(route), asyncio.Semaphore(streams)

    async def one(prompt: str) -> None:
        async with places:
            try:
                run.answers.append(await _ask(client, prompt, route, max_tokens))
            except WeirClientError as error:
                run.errors[error.reason or error.status.name] += 1

    started = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for prompt in prompts:
            tasks.create_task(one(prompt))
    run.wall_s = time.perf_counter() - started
    return run


def percentile(values: Sequence[float], share: float) -> float:
    """Return the nearest-rank percentile; 0 of nothing."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def _row(run: Run) -> list[str]:
    first = [answer.first_token_s * 1000 for answer in run.answers]
    total = [answer.total_s for answer in run.answers]
    tokens = sum(answer.tokens for answer in run.answers)
    cost = sum(answer.cost_usd for answer in run.answers)
    frontier = sum(answer.frontier_usd for answer in run.answers)
    shares = Counter(answer.tier for answer in run.answers)
    return [
        run.route,
        str(len(run.answers)),
        ", ".join(f"{name} {count}" for name, count in run.errors.items()) or "0",
        ", ".join(f"{name} {count}" for name, count in sorted(shares.items())),
        str(sum(answer.stand_in for answer in run.answers)),
        str(sum(answer.replay for answer in run.answers)),
        str(tokens),
        f"{percentile(first, 0.5):.0f} / {percentile(first, 0.95):.0f}",
        f"{percentile(total, 0.5):.2f} / {percentile(total, 0.95):.2f}",
        f"{tokens / run.wall_s:.0f}" if run.wall_s else "-",
        f"{cost:.4f}",
        f"{frontier:.4f}",
        f"{cost / frontier:.2f}" if frontier else "-",
    ]


_COLUMNS = (
    "route", "answers", "errors", "answered by", "stand-in", "replay", "tokens",
    "first token ms p50 / p95", "total s p50 / p95", "tokens/s", "cost $", "frontier alone $",
    "cost / frontier",
)  # fmt: skip


@bench_app.command("prompts")
def prompts_command(
    files: Annotated[list[Path], typer.Argument(help="JSONL files with one 'turns' list a line.")],
    route: Annotated[list[Route] | None, typer.Option(help="Routes to run; all four by default.")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")] = 48,
    streams: Annotated[int, typer.Option(min=1, help="Prompts in flight at once.")] = 8,
    target: Annotated[str, typer.Option(help="The router's address.")] = DEFAULT_TARGET,
    limit: Annotated[int, typer.Option(min=0, help="So many prompts; 0: all.")] = 0,
) -> None:
    """Send every prompt by every route and print what it took; exit 1 where any failed."""
    prompts = read_prompts(files)
    prompts = prompts[:limit] if limit else prompts

    async def measure() -> list[Run]:
        async with WeirClient(target, metadata=credentials(os.environ)) as client:
            return [await _run(client, prompts, each, max_tokens, streams) for each in route or list(Route)]

    runs = asyncio.run(measure())
    table = Table(
        *_COLUMNS, title=f"{len(prompts)} prompts, {streams} at once, at most {max_tokens} tokens each"
    )
    for run in runs:
        table.add_row(*_row(run))
    Console(width=200).print(table)
    if any(run.errors for run in runs):
        raise typer.Exit(1)
