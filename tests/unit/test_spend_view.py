"""What `weir spend` prints of a report."""

from __future__ import annotations

import io
import re
from dataclasses import replace

from rich.console import Console

from weir.cli.spend_view import print_report
from weir.spending.report import Budget, Report, Saved, Spent

ROW = Spent("", "acme", "openai", "gpt-4o", 3, 1_200, 200, 0, 450, 50, 0.25, 0.5, replay=False)
BUDGET = Budget("acme", "", "month", 10.0, 9.5, 0.5, 1_772_323_200.0)
SAVED = Saved("", "acme", "slm", 8, 900, 0.25, 1.0)


def printed(report: Report, *, by_day: bool = False) -> str:
    out = io.StringIO()
    print_report(report, Console(file=out, width=160), by_day=by_day)
    return re.sub(r" +", " ", out.getvalue())


def test_a_row_for_each_tenant_and_model_and_their_sum() -> None:
    other = replace(ROW, tenant="", model="o3", attempts=1, settled_usd=1.5, replay=True)
    text = printed(Report((ROW, other), (), ()))
    assert "acme openai gpt-4o 3 1,200 200 450 $0.25 $0.5" in text
    assert "(none) openai o3 (replay) 1 1,200 200 450 $1.50 $0.5" in text
    assert "all 4 2,400 400 900 $1.75 $1.00" in text


def test_days_come_first_where_they_are_asked_for() -> None:
    text = printed(Report((replace(ROW, day="2026-01-31"),), (), ()), by_day=True)
    assert "day tenant provider model" in text
    assert "2026-01-31 acme openai" in text


def test_budgets_tell_what_is_left_and_when_they_begin_anew() -> None:
    shared = Budget("*", "gpt-4o", "total", 5.0, 5.0, 0.0, None)
    text = printed(Report((), (BUDGET, shared), ()))
    assert "Nothing was spent" in text
    assert "acme all month $10.00 $9.50 $0.5 2026-03-01" in text
    assert "all tenants gpt-4o total $5.00 $5.00 $0 -" in text


def test_savings_are_told_by_tier_and_in_all() -> None:
    text = printed(Report((ROW,), (), (), (SAVED, Saved("", "acme", "frontier", 2, 100, 0.5, 0.5))))
    assert "acme slm 8 900 $0.25 $1.00 $0.75 (75%)" in text
    assert "Saved $0.75 (50%) against the frontier alone: $0.75 instead of $1.50" in text
    assert "over 10 finished answers, 8 of them local" in text


def test_a_loss_is_told_as_one() -> None:
    text = printed(Report((), (), (), (replace(SAVED, cost_usd=1.25),)))
    assert "Saved -$0.25 (-25%)" in text


def test_it_says_why_nothing_is_known_of_savings() -> None:
    assert "no receipts of a router can be read" in printed(Report((ROW,), (), ()))
    assert "nothing is known to be saved" in printed(Report((ROW,), (), (), ()))


def test_names_steer_neither_the_terminal_nor_the_markup() -> None:
    evil = "\x1b]0;owned\x07[bold red]x[/]"
    text = printed(Report((replace(ROW, tenant=evil, model=evil, provider=evil),), (), ()))
    assert "\x1b" not in text
    assert text.count("[bold red]x[/]") == 3


def test_the_record_has_the_sums() -> None:
    record = Report((ROW, ROW), (BUDGET,), (), (SAVED,)).record()
    assert (record["settled_usd"], record["reserved_usd"]) == (0.5, 1.0)
    assert record["saved"]["saved_usd"] == 0.75
    assert Report((), (), ()).record()["saved"] is None
