"""What was measured, beside what it must reach."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Figure:
    """One row. ``met`` is ``None`` where nothing is asked of it; ``values`` are its numbers by name."""

    about: str
    what: str
    measured: str
    target: str = ""
    met: bool | None = None
    values: Mapping[str, float] = field(default_factory=dict)


def at_least(about: str, what: str, value: float, least: float, detail: str, **values: float) -> Figure:
    """Return a row whose ``value`` must reach ``bound``."""
    return Figure(
        about, what, f"{value:.2f}  ({detail})", f">= {least:.2f}", value >= least, {"value": value, **values}
    )


def table(figures: Sequence[Figure]) -> Table:
    """Return the rows as a table."""
    shown = Table("target model", "what", "measured", "target", "met", title="Verification")
    for figure in figures:
        met = "" if figure.met is None else "yes" if figure.met else "[red]NO[/]"
        shown.add_row(figure.about, figure.what, figure.measured, figure.target, met)
    return shown


def show(figures: Sequence[Figure], *, as_json: bool) -> None:
    """Print the rows: a table for people, or one JSON object a line."""
    if not as_json:
        Console(width=180).print(table(figures))
        return
    for figure in figures:
        row = {
            "about": figure.about,
            "what": figure.what,
            "measured": figure.measured,
            "target": figure.target,
            "met": figure.met,
            "values": dict(figure.values),
        }
        print(json.dumps(row, ensure_ascii=False))
