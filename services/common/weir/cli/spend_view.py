"""What `weir spend` prints: three tables and a sentence."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table
from rich.text import Text

from weir.cli.answer import dollars
from weir.cli.log_lines import printable
from weir.spending.report import Budget, Report, Saved, Spent, total_saved


def print_report(report: Report, console: Console, *, by_day: bool) -> None:
    """Print the spending, the budgets and what was saved."""
    if report.spend:
        console.print(_spending(report.spend, by_day=by_day))
    else:
        console.print(Text("Nothing was spent on frontier models.", style="dim"))
    if report.budgets:
        console.print()
        console.print(_budgets(report.budgets))
    console.print()
    _print_savings(report.savings, console, by_day=by_day)


def _table(words: Sequence[str], numbers: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for word in words:
        table.add_column(word, overflow="fold")
    for number in numbers:
        table.add_column(number, justify="right", no_wrap=True)
    return table


def _spending(rows: Sequence[Spent], *, by_day: bool) -> Table:
    table = _table(
        [*(["day"] if by_day else []), "tenant", "provider", "model"],
        ["attempts", "tokens in", "cached", "out", "spent", "reserved"],
    )
    for row in rows:
        mark = " (replay)" if row.replay else ""
        words = [_name(row.tenant), _plain(row.provider), _plain(row.model + mark)]
        table.add_row(*([row.day] if by_day else []), *words, *_numbers([row]))
    if len(rows) > 1:
        table.add_section()
        table.add_row("all", *[""] * (3 if by_day else 2), *_numbers(rows), style="bold")
    return table


def _numbers(rows: Sequence[Spent]) -> list[str]:
    return [
        f"{sum(row.attempts for row in rows):,}",
        f"{sum(row.prompt_tokens for row in rows):,}",
        f"{sum(row.cached_prompt_tokens for row in rows):,}",
        f"{sum(row.completion_tokens for row in rows):,}",
        dollars(sum(row.settled_usd for row in rows)),
        dollars(sum(row.reserved_usd for row in rows)),
    ]


def _budgets(budgets: Iterable[Budget]) -> Table:
    table = _table(["budget of", "model", "per"], ["limit", "committed", "left", "resets (UTC)"])
    for budget in budgets:
        style = "red" if budget.left_usd <= 0 else "yellow" if budget.left_usd < budget.limit_usd / 10 else ""
        table.add_row(
            "all tenants" if budget.tenant == "*" else _name(budget.tenant),
            _plain(budget.model) if budget.model else Text("all", style="dim"),
            budget.period,
            dollars(budget.limit_usd),
            dollars(budget.committed_usd),
            Text(dollars(budget.left_usd), style=style),
            _moment(budget.resets_at),
        )
    return table


def _print_savings(savings: Sequence[Saved] | None, console: Console, *, by_day: bool) -> None:
    if savings is None:
        console.print(Text("What was saved is not known here: no receipts of a router can be read.", "dim"))
        return
    if not savings:
        console.print(Text("No answer of the router is on record, so nothing is known to be saved.", "dim"))
        return
    table = _table(
        [*(["day"] if by_day else []), "tenant", "answered by"],
        ["answers", "tokens out", "cost", "frontier alone", "saved"],
    )
    for row in savings:
        table.add_row(
            *([row.day] if by_day else []),
            _name(row.tenant),
            row.tier or "-",
            f"{row.answers:,}",
            f"{row.completion_tokens:,}",
            dollars(row.cost_usd),
            dollars(row.frontier_cost_usd),
            _saving(row.frontier_cost_usd - row.cost_usd, row.frontier_cost_usd),
        )
    console.print(table)
    total = total_saved(savings)
    console.print(
        Text(
            f"Saved {_saving(total.saved_usd, total.frontier_cost_usd)} against the frontier alone: "
            f"{dollars(total.cost_usd)} instead of {dollars(total.frontier_cost_usd)}, over "
            f"{total.answers:,} finished answers, {total.local:,} of them local."
        )
    )


def _saving(saved: float, alone: float) -> str:
    amount = dollars(saved) if saved >= 0 else f"-{dollars(-saved)}"
    return f"{amount} ({saved / alone:.0%})" if alone > 0 else amount


def _moment(seconds: float | None) -> str:
    return "-" if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d")


def _name(tenant: str) -> Text:
    return _plain(tenant) if tenant else Text("(none)", style="dim")


def _plain(text: str) -> Text:
    # Names come from callers: neither the terminal nor rich's markup is theirs to use.
    return Text(printable(text))
