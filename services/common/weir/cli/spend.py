"""`weir spend`: what was spent, what is left of the budgets, and what the router saved."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from datetime import date
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from weir.cli.credentials import credentials
from weir.cli.spend_view import print_report
from weir.client.errors import WeirClientError
from weir.common.config import load_settings
from weir.spending.report import Report, Wanted
from weir.spending.source import SpendSource

spend_app = typer.Typer(add_completion=False)


@spend_app.command()
def spend(
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's.")] = None,
    by_day: Annotated[bool, typer.Option("--by-day", help="A row for each day (UTC).")] = False,
    since: Annotated[
        str | None, typer.Option("--from", help="First day (2026-01-31); implies --by-day.")
    ] = None,
    until: Annotated[str | None, typer.Option("--to", help="Last day; implies --by-day.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    target: Annotated[
        str | None,
        typer.Option("--target", help="The frontier proxy's host:port; the configured one otherwise."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", envvar="WEIR_CONFIG", help="Configuration file (YAML).")
    ] = None,
) -> None:
    """Show spending by tenant and model, budgets, and what was saved against the frontier alone.

    A tenant's key is taken from WEIR_API_KEY, a token from WEIR_TOKEN.
    """
    settings = load_settings(config, os.environ)
    first, last = _day(since, "--from"), _day(until, "--to")
    if first and last and first > last:
        raise typer.BadParameter("is before --from", param_hint="--to")
    wanted = Wanted(tenant, by_day or bool(first or last), first, last)
    source = SpendSource(
        settings,
        target or f"127.0.0.1:{settings.services.frontier_proxy.port}",
        # Those here belong to the router here.
        receipts=target is None,
        metadata=credentials(os.environ),
    )
    try:
        report = asyncio.run(_ask(source, wanted))
    except WeirClientError as error:
        typer.secho(f"weir: {error.message}", fg=typer.colors.RED, err=True)
        raise typer.Exit(1) from None
    if as_json:
        sys.stdout.write(json.dumps(report.record(), ensure_ascii=False) + "\n")
    else:
        print_report(report, Console(width=None if sys.stdout.isatty() else 160), by_day=wanted.by_day)


async def _ask(source: SpendSource, wanted: Wanted) -> Report:
    try:
        return await source.report(wanted)
    finally:
        await source.aclose()


def _day(text: str | None, option: str) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        raise typer.BadParameter(f"'{text}' is no day such as 2026-01-31", param_hint=option) from None
