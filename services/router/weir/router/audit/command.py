"""`weir router audit LOGFILE`: what Weir would do with the traffic of an existing log, in money."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NoReturn

import typer

DEFAULT_LIMIT = 10_000


def audit(
    logfile: Annotated[
        Path,
        typer.Argument(help="JSON lines, a JSON document, CSV or plain text; gzip too.", show_default=False),
    ],
    limit: Annotated[
        int, typer.Option(min=0, help="Prompts judged at most, drawn at random; 0 judges all.")
    ] = DEFAULT_LIMIT,
    threshold: Annotated[
        float | None, typer.Option(min=0, max=1, help="Complexity threshold instead of the configured one.")
    ] = None,
    target: Annotated[
        str | None, typer.Option(metavar="KIND=VALUE", help="quality=0.9, or cost=0.002 (USD per query).")
    ] = None,
    input_price: Annotated[
        float | None,
        typer.Option(min=0, help="USD per million input tokens of models without a known price."),
    ] = None,
    output_price: Annotated[
        float | None, typer.Option(min=0, help="USD per million output tokens of such models.")
    ] = None,
    answer_tokens: Annotated[
        float | None, typer.Option(min=0, help="Tokens of answers that the log does not tell of.")
    ] = None,
    examples: Annotated[bool, typer.Option(help="Show example prompts, personal data masked.")] = True,
    classifier: Annotated[
        Path | None, typer.Option(help="Artifact folder; the configured or packaged one by default.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    config: Annotated[
        Path | None, typer.Option("--config", envvar="WEIR_CONFIG", help="Configuration file (YAML).")
    ] = None,
) -> None:
    """Judge the prompts of an existing log: the share per tier, the money at stake, examples.

    Nothing leaves this machine, and nothing is kept.
    """
    from weir.common.config import load_settings
    from weir.router.audit.auditing import Question, labels_of
    from weir.router.audit.auditing import audit as run
    from weir.router.audit.prices import price_book
    from weir.router.audit.reading import read_log
    from weir.router.audit.source import LogFileError
    from weir.router.classifier.model import Classifier
    from weir.router.replay.scenario import ScenarioError, parse_target

    if (input_price is None) != (output_price is None):
        _fail("Give --input-price and --output-price together.")
    if threshold is not None and target is not None:
        _fail("Give either --threshold or --target.")
    settings = load_settings(config, os.environ)
    try:
        wanted = parse_target(target) if target else None
        question = Question(threshold, wanted, answer_tokens, examples)
        log = read_log(logfile, limit)
        loaded = Classifier.load(classifier or settings.routing.classifier)
        book = price_book(settings, input_price, output_price)
        with _progress() as told:
            report = run(logfile, log, loaded, labels_of(loaded), settings, book, question, told)
    except (LogFileError, ScenarioError) as error:
        _fail(str(error))
    if as_json:
        import msgspec

        typer.echo(msgspec.json.format(msgspec.json.encode(report), indent=2).decode())
        return
    from rich.console import Console

    from weir.router.audit.render import WIDTH, show

    show(report, Console(width=None if sys.stdout.isatty() else WIDTH))


@contextmanager
def _progress() -> Iterator[Callable[[float], None]]:
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task("judging", total=1.0)
        yield lambda share: bars.update(task, completed=share)


def _fail(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(1)
