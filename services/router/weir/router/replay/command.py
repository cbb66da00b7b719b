"""`weir router replay TRACE`: what other settings, or the controller, would have done on past traffic."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from weir.common.config import Settings
    from weir.router.replay.rejudging import Rejudged
    from weir.router.replay.scenario import Scenario, Target
    from weir.router.replay.trace import Episode, Trace


def replay(
    trace: Annotated[
        Path,
        typer.Argument(help="receipts.sqlite3, or what `weir receipts export` writes.", show_default=False),
    ],
    threshold: Annotated[
        list[float] | None,
        typer.Option(min=0, max=1, help="Complexity threshold; may be given several times."),
    ] = None,
    confidence: Annotated[
        float | None, typer.Option(min=0, max=1, help="Least confidence in the SLM's answer.")
    ] = None,
    sweep: Annotated[str | None, typer.Option(metavar="FROM:TO:STEP", help="Several thresholds.")] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND=VALUE", help="quality=0.9, cost=0.002 (USD per query), latency=300 (p95, ms)."
        ),
    ] = None,
    classifier: Annotated[
        Path | None, typer.Option(help="Artifact of another classifier; needs receipts with prompts.")
    ] = None,
    controller: Annotated[
        bool, typer.Option("--controller", help="Run the configured controller over the trace.")
    ] = False,
    unverified: Annotated[
        bool, typer.Option("--unverified", help="Go on although the hash chain is broken.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    plot: Annotated[Path | None, typer.Option(help="Draw it as well (PNG, SVG or PDF).")] = None,
    config: Annotated[
        Path | None, typer.Option("--config", envvar="WEIR_CONFIG", help="Configuration file (YAML).")
    ] = None,
) -> None:
    """Say what the router would have done on past traffic under other settings."""
    from weir.router.replay.plot import PlotError
    from weir.router.replay.rejudging import RejudgingError
    from weir.router.replay.scenario import ScenarioError, parse_sweep, parse_target
    from weir.router.replay.trace import TraceError, load_trace

    try:
        targets = [parse_target(text) for text in target or []]
        thresholds = [*(threshold or []), *(parse_sweep(sweep) if sweep else [])]
        loaded = load_trace(trace, unverified=unverified)
        if controller:
            _controller(loaded, targets, config, as_json=as_json, plot=plot)
        else:
            rejudged = _rejudge(loaded, classifier, config) if classifier else None
            loaded = rejudged.trace if rejudged else loaded
            scenarios = _scenarios(loaded.episodes, thresholds, confidence, targets, rejudged)
            _compare(loaded, scenarios, as_json=as_json, plot=plot)
    except (ScenarioError, TraceError, RejudgingError, PlotError) as error:
        _fail(str(error))


def _rejudge(trace: Trace, classifier: Path, config: Path | None) -> Rejudged:
    from weir.router.classifier import Classifier
    from weir.router.replay.rejudging import rejudge

    loaded = Classifier.load(classifier)
    _say("judging the prompts anew …")
    return rejudge(trace, loaded, _settings(config).tiers.hybrid.recovered_gain)


def _scenarios(
    episodes: Sequence[Episode],
    values: Sequence[float],
    confidence: float | None,
    targets: Sequence[Target],
    rejudged: Rejudged | None,
) -> list[Scenario]:
    from weir.router.replay import bar
    from weir.router.replay.scenario import as_recorded, thresholds, under

    asked = [thresholds(value, confidence) for value in values]
    if confidence is not None and not values:
        asked.append(thresholds(None, confidence))
    found = [*asked, *(bar.settle(target, episodes) for target in targets)]
    if rejudged is None:
        return found
    cases, name = rejudged.cases, rejudged.revision
    again = [as_recorded(), *asked]
    return [
        *found,
        *(under(scenario, cases, name) for scenario in again),
        *(under(bar.settle(target, episodes, cases), cases, name) for target in targets),
    ]


def _compare(trace: Trace, scenarios: list[Scenario], *, as_json: bool, plot: Path | None) -> None:
    from weir.router.replay.comparison import compare
    from weir.router.replay.plot import plot_comparison

    rows = compare(trace.episodes, scenarios)
    if plot:
        plot_comparison(rows, plot)
    if as_json:
        _print_json({"trace": trace.name, "verified": trace.verified, "notes": trace.notes, "rows": rows})
        return
    from weir.router.replay.render import show_comparison

    show_comparison(trace, rows, _console())
    if not scenarios:
        _say("Ask for a counterfactual: --threshold, --sweep, --target, --classifier or --controller.")


def _controller(
    trace: Trace, targets: list[Target], config: Path | None, *, as_json: bool, plot: Path | None
) -> None:
    from weir.router.replay.plot import plot_course
    from weir.router.replay.simulation import simulate

    with _quiet():
        course = simulate(trace.episodes, _moving(_settings(config), targets))
    if plot:
        plot_course(course, plot)
    if as_json:
        _print_json({"trace": trace.name, "verified": trace.verified, "notes": trace.notes, "course": course})
        return
    from weir.router.replay.render import show_course

    show_course(trace, course, _console())


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave out what a live controller logs: what moves is in the report."""
    import structlog

    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    try:
        yield
    finally:
        structlog.configure(**before)


def _settings(config: Path | None) -> Settings:
    from weir.common.config import load_settings

    return load_settings(config, os.environ)


def _moving(settings: Settings, targets: list[Target]) -> Settings:
    """Return settings under which the controller moves: it is asked what it would do, on or off."""
    from weir.common.config.routing import RoutingTarget

    routing = settings.routing
    if targets:
        held = RoutingTarget.model_validate({targets[0].kind: targets[0].value})
        routing = routing.model_copy(update={"target": held})
    dynamic = routing.dynamic_adjustment.model_copy(update={"enabled": True})
    return settings.model_copy(update={"routing": routing.model_copy(update={"dynamic_adjustment": dynamic})})


def _console() -> Console:
    from rich.console import Console

    from weir.router.replay.render import WIDTH

    return Console(width=None if sys.stdout.isatty() else WIDTH)


def _print_json(content: object) -> None:
    import msgspec

    typer.echo(msgspec.json.format(msgspec.json.encode(content), indent=2).decode())


def _say(what: str) -> None:
    typer.echo(what, err=True)


def _fail(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(1)
