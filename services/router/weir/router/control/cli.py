"""`weir router status`: what a running router does and why."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from weir.v1 import router_pb2


def status(
    router: Annotated[
        str | None, typer.Option("--router", help="The router's host:port; the configured one otherwise.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one object of JSON.")] = False,
    timeout: Annotated[float, typer.Option(min=0.001, help="Deadline in seconds.")] = 5.0,
) -> None:
    """Show the thresholds in force, the measurements behind them and the latest moves."""
    from google.protobuf import json_format
    from rich.console import Console

    from weir.client import WeirClientError
    from weir.common.config import load_settings

    target = router or f"127.0.0.1:{load_settings(None, os.environ).services.router.port}"
    try:
        found = asyncio.run(_ask(target, timeout))
    except WeirClientError as error:
        typer.echo(
            f"No status from {target}: {error.message} [{error.reason or error.status.name}]", err=True
        )
        raise typer.Exit(1) from None
    if as_json:
        typer.echo(
            json_format.MessageToJson(
                found, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
            )
        )
        return
    console = Console(width=None if Console().is_terminal else 120)
    console.print(_controller(found.controller))
    console.print(_tiers(found))
    if found.classifiers:
        console.print(_classifiers(found))
    for move in found.controller.moves:
        age = move.age.ToTimedelta().total_seconds()
        console.print(f"{age:6.0f} s ago  {move.before:.3f} to {move.after:.3f}  {move.reason}")


async def _ask(target: str, timeout: float) -> router_pb2.GetStatusResponse:
    from weir.client import WeirClient

    async with WeirClient(target) as client:
        return await client.status(timeout=timeout)


def _controller(controller: router_pb2.ControllerStatus) -> Table:
    table = _grid("controller", "value")
    table.add_row("state", controller.state if controller.enabled else "off: thresholds as configured")
    table.add_row(controller.metric, f"{controller.value:.4g} (target {controller.target:.4g})")
    configured = f"configured {controller.configured_complexity_threshold:.3f}"
    table.add_row("complexity threshold", f"{controller.complexity_threshold:.3f} ({configured})")
    table.add_row("confidence threshold", f"{controller.confidence_threshold:.3f}")
    table.add_row("shared with replicas", "yes" if controller.shared else "no")
    return table


def _tiers(found: router_pb2.GetStatusResponse) -> Table:
    from weir.v1 import types_pb2

    table = _grid("tier", "reachable", "share", "p95 first token", "USD per answer", "errors", "handed over")
    for tier in found.tiers:
        p95 = tier.p95_first_token.ToTimedelta().total_seconds() if tier.HasField("p95_first_token") else None
        table.add_row(
            types_pb2.Tier.Name(tier.tier).removeprefix("TIER_").lower(),
            "yes" if tier.available else "no",
            f"{tier.share:.1%}",
            "" if p95 is None else f"{p95:.3f} s",
            f"{tier.mean_cost_usd:.6f}",
            f"{tier.error_rate:.1%}",
            f"{tier.escalation_rate:.1%}",
        )
    return table


def _classifiers(found: router_pb2.GetStatusResponse) -> Table:
    table = _grid("classifier", "revision", "judged", "from the cache", "past the limit", "detail")
    for item in found.classifiers:
        counts = (str(item.judged), str(item.cached), str(item.fallbacks))
        table.add_row(item.role, item.revision, *counts, item.detail)
    return table


def _grid(*columns: str) -> Table:
    from rich.table import Table

    return Table(*columns)
