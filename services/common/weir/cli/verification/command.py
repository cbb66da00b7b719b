"""`weir bench verify`: whether verification pays for itself on this machine, and whether it is exact."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from enum import StrEnum
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from weir.cli.verification.figures import Figure, show

if TYPE_CHECKING:
    from weir.v1 import types_pb2


class Part(StrEnum):
    """What can be measured by itself."""

    SPEED = "speed"
    ROUNDS = "rounds"
    SESSIONS = "sessions"
    LOOKUP = "lookup"
    LEAKS = "leaks"


def verify_command(
    target: Annotated[
        list[Path] | None,
        typer.Option(help="A model to verify with, in the drafter's vocabulary; may be given several times."),
    ] = None,
    build: Annotated[
        Path | None,
        typer.Option(help="Folder for target models made from the drafter, wider and more and more noisy."),
    ] = None,
    drafter: Annotated[
        Path | None, typer.Option(help="The model that drafts; the embedded one by default.")
    ] = None,
    only: Annotated[
        str, typer.Option(help=f"Parts to measure, by commas: {', '.join(Part)}; all by default.")
    ] = ",".join(Part),
    prompts: Annotated[int, typer.Option(min=1, help="Prompts of each kind, of the eight there are.")] = 8,
    tokens: Annotated[int, typer.Option(min=8, help="Longest answer, in tokens.")] = 128,
    streams: Annotated[int, typer.Option(min=20, help="Streams to break off, for leaks.")] = 1000,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Measure verification with real services and print each figure beside its target; exit 1 below any.

    Rounds, lookup and leaks are measured with the first target alone.
    """
    parts = _parts(only)
    figures: list[Figure] = []

    async def measure() -> None:
        from weir.cli.verification.targets import build_targets, embedded_drafter
        from weir.common.config.model import Observability
        from weir.common.logs import configure_logs

        configure_logs("bench", Observability(log_format="console", log_level="warning"))
        small = drafter or await embedded_drafter()
        targets = list(target or [])
        if build is not None:
            targets += await build_targets(small, build)
        if not targets:
            raise typer.BadParameter("name a model with --target, or a folder for some with --build")
        async for figure in _figures(small, targets, parts, prompts, tokens, streams):
            figures.append(figure)
            if not as_json:
                typer.echo(f"{figure.about}: {figure.what}: {figure.measured}", err=True)

    asyncio.run(measure())
    show(figures, as_json=as_json)
    if any(figure.met is False for figure in figures):
        raise typer.Exit(1)


def _parts(only: str) -> set[Part]:
    try:
        return {Part(name.strip()) for name in only.split(",")}
    except ValueError as error:
        raise typer.BadParameter(f"{error}; there are {', '.join(Part)}") from None


async def _figures(
    drafter: Path, targets: Sequence[Path], parts: set[Part], count: int, tokens: int, streams: int
) -> AsyncIterator[Figure]:
    from weir.cli.verification.leaks import leaks
    from weir.cli.verification.lookup import lookup
    from weir.cli.verification.rounds import rounds

    questions = _prompts("questions", count, tokens)
    for target in targets:
        for figure in await _whole_bench(drafter, target, parts, questions):
            yield figure
    first = targets[0]
    if Part.ROUNDS in parts:
        for figure in await rounds(drafter, first, questions):
            yield figure
    if Part.LOOKUP in parts:
        for figure in await lookup(drafter, first, _prompts("extraction", count, tokens)):
            yield figure
    if Part.LEAKS in parts:
        for figure in await leaks(drafter, first, streams):
            yield figure


async def _whole_bench(
    drafter: Path, target: Path, parts: set[Part], prompts: list[types_pb2.Prompt]
) -> list[Figure]:
    """Measure what takes everything at once: the services, and both engines beside them."""
    from weir.cli.verification.bench import bench_of
    from weir.cli.verification.sessions import sessions
    from weir.cli.verification.speed import speed

    if not parts & {Part.SPEED, Part.SESSIONS}:
        return []
    figures: list[Figure] = []
    async with bench_of(drafter, target, prompts) as bench:
        if Part.SPEED in parts:
            figures += await speed(bench)
        if Part.SESSIONS in parts:
            figures += await sessions(bench)
    return figures


def _prompts(kind: str, count: int, tokens: int) -> list[types_pb2.Prompt]:
    from weir.cli.verification.streams import prompt

    text = resources.files("weir.cli.verification").joinpath("prompts.json").read_text(encoding="utf-8")
    return [prompt(each, tokens) for each in json.loads(text)[kind][:count]]
