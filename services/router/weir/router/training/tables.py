"""An evaluation's report as a table for the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table as Grid

from weir.router.training import baselines
from weir.router.training.report import Escalation, Figures, Report

_COLUMNS = ("apgr", "cpt50", "cpt80", "ece", "brier", "auroc")
_WITH_INTERVAL = frozenset({"apgr", "cpt50", "cpt80", "ece"})
_WIDTH = 140


def show(made: Report) -> None:
    """Print the figures, the most important ones each with its 95 % interval."""
    console = Console(width=None if Console().is_terminal else _WIDTH, highlight=False)
    console.print(f"{made.data}, classifier {made.revision}", markup=False)
    console.print(_grid(made))
    for line in _lines(made):
        console.print(line, markup=False)


def _grid(made: Report) -> Grid:
    caption = "right: always cheap to always dear; in brackets 95 % intervals, by bootstrap"
    grid = Grid("", "rows", "right, %", *_COLUMNS, caption=caption)
    rows: dict[str, Figures] = {"classifier": made, **made.by_source}
    if made.unseen_domains is not None:
        rows[f"{len(made.unseen_names)} unseen domains"] = made.unseen_domains
    if made.unseen_in_training is not None:
        rows["unseen domains, in training"] = made.unseen_in_training
    for part in (rows, made.baselines):
        for name, figures in part.items():
            cells = (_cell(figures, column) for column in _COLUMNS)
            grid.add_row(name, f"{figures.rows:,}", _right(figures), *cells)
        grid.add_section()
    return grid


def _right(figures: Figures) -> str:
    ends = (figures.weak_accuracy, figures.strong_accuracy)
    return " to ".join(f"{100 * end:.1f}" for end in ends if end is not None)


def _cell(figures: Figures, column: str) -> str:
    value: float | None = getattr(figures, column)
    if value is None:
        return ""
    interval = figures.intervals.get(column)
    if column not in _WITH_INTERVAL or interval is None or interval[0] == interval[1]:
        return f"{value:.3f}"
    low, high = (f"{bound:.2f}".replace("0.", ".", 1) for bound in interval)
    # A backslash keeps rich from reading the bracket as markup.
    return f"{value:.3f} \\[{low}, {high}]"


def _lines(made: Report) -> list[str]:
    lines = []
    if (ahead := made.advantage.get(baselines.LENGTH)) is not None:
        spread = f" [{ahead.interval[0]:+.3f}, {ahead.interval[1]:+.3f}]" if ahead.interval else ""
        lines.append(f"APGR ahead of prompt length: {ahead.apgr:+.3f}{spread}")
    if made.ece_by_chance is not None:
        mean, most = made.ece_by_chance
        lines.append(
            f"ECE of perfect probabilities on as many rows: {mean:.3f}, in 95 % of files below {most:.3f}"
        )
    if made.escalation is not None:
        lines.append(_escalation(made.escalation))
    return lines


def _escalation(found: Escalation) -> str:
    return (
        f"so that at most {100 * found.tolerated:.0f} % of the answers left to the small model are wrong, "
        f"any router escalates at least {100 * found.least:.1f} %, this one {100 * found.needed:.1f} %"
    )
