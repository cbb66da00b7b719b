"""`weir receipts verify|show|export`: check, read and hand on what the router has decided."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from weir.router.receipts.chain import Link, Verdict
    from weir.router.receipts.database import Database

receipts_app = typer.Typer(no_args_is_help=True, help="The router's decisions: verify, show, export.")

ConfigOption = Annotated[
    Path | None, typer.Option("--config", envvar="WEIR_CONFIG", help="Configuration file (YAML).")
]
TenantOption = Annotated[str | None, typer.Option(help="Only this tenant's.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@receipts_app.command()
def verify(
    trace: Annotated[
        Path | None, typer.Argument(help="A trace of all receipts; what the router keeps where not given.")
    ] = None,
    head: Annotated[str | None, typer.Option(help="A head that an earlier run printed.")] = None,
    anchor: Annotated[
        str | None, typer.Option(help="With TRACE: the anchor; its first receipt is trusted otherwise.")
    ] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Check the hash chain and print its head, to be noted; exits with 1 at the first break."""
    noted, start = _link(head, "--head"), _link(anchor, "--anchor")
    if trace is None:
        from weir.router.receipts.database import check

        with _database(config) as database:
            verdict = check(database, noted)
    else:
        verdict = _check_trace(trace, start, noted)
    _report(verdict, as_json=as_json)


@receipts_app.command()
def show(
    decision_id: str, tenant: TenantOption = None, as_json: JsonOption = False, config: ConfigOption = None
) -> None:
    """Print one decision: what was measured, who could answer, why this one, what became of it."""
    from weir.router.receipts.store import story

    with _database(config) as database:
        found = story(database.of_decision(decision_id), tenant)
    if found is None:
        _fail(f"No decision {decision_id} is kept.")
    if as_json:
        import msgspec

        typer.echo(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
        return
    from rich.console import Console

    from weir.router.receipts.explain import print_story

    print_story(found, Console(width=None if sys.stdout.isatty() else 120))


@receipts_app.command()
def export(
    since: Annotated[
        str | None, typer.Option(help="Decisions from then on (ISO 8601; UTC unless said).")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Decisions before then.")] = None,
    tenant: TenantOption = None,
    out: Annotated[Path | None, typer.Option(help="File to write; standard output where not given.")] = None,
    config: ConfigOption = None,
) -> None:
    """Write receipts as JSON lines, a trace that `weir router replay` reads."""
    from weir.router.receipts.database import Filter, walk
    from weir.router.receipts.trace import write_trace

    only = Filter(_seconds(since, "--since"), _seconds(until, "--until"), tenant)
    with _database(config) as database, database.snapshot():
        if out is None:
            write_trace(walk(database, only), sys.stdout.buffer)
            return
        try:
            with out.open("wb") as file:
                count = write_trace(walk(database, only), file)
        except OSError as error:
            _fail(f"{out} cannot be written: {error.strerror}.")
    typer.echo(f"{count} receipts in {out}", err=True)


def _check_trace(trace: Path, start: Any, noted: Any) -> Verdict:
    from weir.router.receipts import chain
    from weir.router.receipts.trace import TraceError, read_links

    try:
        links = read_links(trace)
        if start is None:
            start = next(links, (chain.Link(0, bytes(chain.HASH_BYTES)), b""))[0]
        elif isinstance(start, bytes):
            raise typer.BadParameter("give it as SEQUENCE:HASH", param_hint="--anchor")
        return chain.verify(links, start, noted)
    except TraceError as error:
        _fail(f"{error}.")
    except OSError as error:
        _fail(f"{trace} cannot be read: {error.strerror}.")


def _report(verdict: Verdict, *, as_json: bool) -> None:
    where = "" if verdict.broken is None else f"receipt {verdict.broken} "
    if as_json:
        import msgspec

        told = {
            "ok": verdict.ok,
            "count": verdict.count,
            "anchor": str(verdict.anchor),
            "head": str(verdict.head),
            "broken": verdict.broken,
            "problem": verdict.problem,
        }
        typer.echo(msgspec.json.encode(told))
    elif verdict.ok:
        typer.echo(f"{verdict.count} receipts, no break.\nanchor {verdict.anchor}\nhead   {verdict.head}")
    else:
        typer.echo(f"BROKEN: {where}{verdict.problem}.\n{verdict.count} receipts before it are good.")
    if not verdict.ok:
        raise typer.Exit(1)


@contextmanager
def _database(config: Path | None) -> Iterator[Database]:
    from weir.common.config import ConfigError, load_settings
    from weir.common.errors import WeirError
    from weir.router.receipts.database import DatabaseDownError
    from weir.router.receipts.sqlite import SqliteDatabase
    from weir.router.receipts.store import database_of

    try:
        database = database_of(load_settings(config).state)
        if isinstance(database, SqliteDatabase) and not database.path.exists():
            _fail(f"There are no receipts yet: {database.path} does not exist.")
        database.open(create=False)
        try:
            yield database
        finally:
            database.close()
    except ConfigError as error:
        _fail(str(error), status=2)
    except WeirError as error:
        _fail(error.hint)
    except DatabaseDownError as error:
        _fail(f"The receipts cannot be read: {error}.")


def _link(text: str | None, option: str) -> Link | bytes | None:
    from weir.router.receipts.trace import parse_link

    try:
        return None if text is None else parse_link(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from None


def _seconds(text: str | None, option: str) -> float | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f"'{text}' is not a time such as 2026-01-31T12:00", param_hint=option
        ) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _fail(message: str, status: int = 1) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(status)
