"""Replays for people: tables of a hundred columns, and what they rest on."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

from rich import box
from rich.console import Console, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from weir.router.replay.comparison import Row, Value
from weir.router.replay.simulation import Course, Span
from weir.router.replay.trace import Trace

WIDTH = 100
_SHOWN_CHANGES = 6
_SHOWN_MOVES = 12
_TIERS = ("slm", "hybrid", "frontier")


def show_comparison(trace: Trace, rows: Sequence[Row], console: Console) -> None:
    """Print scenarios beside what was recorded."""
    for part in _comparison(trace, rows):
        console.print(part)


def show_course(trace: Trace, course: Course, console: Console) -> None:
    """Print what the controller would have done."""
    for part in _course(trace, course):
        console.print(part)


def _comparison(trace: Trace, rows: Sequence[Row]) -> Iterator[RenderableType]:
    yield _heading(trace)
    table = _table(
        "", "SLM/HYB/FRO %", "$ per 1,000", "saved %", "p50 / p95 ms", "right (exp.)", "labels", "moved"
    )
    for row in rows:
        table.add_row(*_lines(row, rows[0]))
    yield table
    yield from (Text.from_markup(f"{escape(row.name)}: {escape(row.note)}.") for row in rows if row.note)
    for row in rows[1:]:
        if row.changes and len(rows) <= 3:
            yield _changes(row)
    yield Text.from_markup("\n[bold]What this rests on[/]")
    yield _bullets(_sentences(rows))


def _heading(trace: Trace) -> RenderableType:
    episodes = trace.episodes
    answered = sum(episode.outcome is not None for episode in episodes)
    labeled = sum(episode.label is not None for episode in episodes)
    hours = (episodes[-1].at - episodes[0].at) / 3600
    span = f"{hours / 24:.1f} days" if hours >= 48 else f"{hours:.1f} hours"
    parts = [f"[bold]{len(episodes):,} decisions in {escape(trace.name)}[/] over {span}: "]
    parts += [f"{answered:,} with an outcome, {labeled:,} with feedback"]
    parts += [f"\n[yellow]{escape(note)}[/]" for note in trace.notes]
    return Text.from_markup("".join(parts))


def _lines(row: Row, actual: Row) -> list[str]:
    """Return the cells: the values, and below them their intervals."""
    shares = "/".join(f"{row.shares.get(tier, 0.0) * 100:.0f}" for tier in _TIERS)
    slow = row.first_token_p95_s
    spent = actual.cost_usd.value or 0.0
    saved = _interval(row.saved_usd, lambda usd: f"{usd / spent * 100:.0f}") if spent else "-"
    return [
        escape(row.name),
        shares,
        _interval(row.cost_usd, lambda usd: f"{usd * 1000:.3f}"),
        "" if row is actual else saved,
        f"{_ms(row.first_token_p50_s.value)} / {_ms(slow.value)}\n[dim]{_ms(slow.low)}…{_ms(slow.high)}[/]",
        _interval(row.quality, lambda share: f"{share:.3f}"),
        _labels(row),
        "" if row is actual else f"{row.changed:,}",
    ]


def _labels(row: Row) -> str:
    said = row.labels
    if said.mean.value is not None:
        return _interval(said.mean, lambda share: f"{share:.3f}")
    return f"[dim]{said.refusal.replace(': ', chr(10))}[/]"


def _interval(value: Value, write: Callable[[float], str]) -> str:
    if value.value is None:
        return "-"
    if value.low is None or value.high is None:
        return write(value.value)
    return f"{write(value.value)}\n[dim]{write(value.low)}…{write(value.high)}[/]"


def _ms(seconds: float | None) -> str:
    if seconds is None or math.isnan(seconds):
        return "-"
    return "∞" if math.isinf(seconds) else f"{seconds * 1000:,.0f}"


def _changes(row: Row) -> RenderableType:
    table = _table(f"what moves: {escape(row.name)}", "decisions", "for example")
    for change in row.changes[:_SHOWN_CHANGES]:
        table.add_row(
            f"{change.source.upper()} → {change.target.upper()}",
            f"{change.count:,}",
            "\n".join(change.examples),
        )
    return table


def _sentences(rows: Sequence[Row]) -> Iterator[str]:
    yield "Intervals are 95 % bootstrap intervals over decisions (the lower line; of the p95 for times)."
    yield (
        "Cost and time are measured where the tier stays. Elsewhere the cost is the recorded price of the "
        "same answer at the frontier, or the estimate of a local one, and the time is that of the tier's "
        "other answers in this trace; more load on a tier is not simulated. Times run to the first token."
    )
    yield "The expected share of right answers is the opinion of the classifier that decided, in all rows."
    yield (
        "Labels: self-normalized inverse-propensity estimate from feedback; propensities come from the "
        "bounds that were in force at different times. Refused where decisions go where no bounds in this "
        "trace sent them, or where too few labels are left. Who gives feedback is no random sample."
    )
    if unknown := max(row.unknown_latency for row in rows):
        yield f"Up to {unknown:,} decisions have no time to go by and are left out of the times."


def _course(trace: Trace, course: Course) -> Iterator[RenderableType]:
    yield _heading(trace)
    target = f"{course.target:g} s" if "latency" in course.metric else f"${course.target:g}"
    yield Text.from_markup(f"The controller holds {escape(course.metric)} at {target}.")
    table = _table(
        "from", "queries", "complexity", "confidence", "bar", "p95 ms", "$ per 1,000", "SLM/HYB/FRO %"
    )
    for span in course.spans:
        table.add_row(_clock(span.start_s), *_span(span))
    table.add_section()
    table.add_row("all", *_span(course.whole), style="bold")
    yield table
    yield from _moves(course)
    yield Text(
        f"\n{course.changed:,} of {course.whole.queries:,} queries would have gone elsewhere. Their times "
        "are those of the tier's answer nearest in time; what more load does to a tier is not in a trace."
    )
    if course.left_out:
        yield Text(
            f"The first {course.left_out:,} queries are left out: only the end of so long a trace is run."
        )
    if course.unknown:
        yield Text(f"{course.unknown:,} of them went to tiers that this trace never measured.")


def _span(span: Span) -> list[str]:
    shares = " / ".join(f"{span.shares.get(tier, 0.0) * 100:.0f}" for tier in _TIERS)
    return [
        f"{span.queries:,}",
        f"{span.complexity:.2f}",
        f"{span.confidence:.2f}",
        f"{span.quality:.2f}",
        f"{_ms(span.p95_recorded_s)} → {_ms(span.p95_controlled_s)}",
        f"{span.cost_recorded_usd * 1000:.3f} → {span.cost_controlled_usd * 1000:.3f}",
        shares,
    ]


def _moves(course: Course) -> Iterator[RenderableType]:
    if not course.moves:
        yield Text("Nothing would have moved.")
        return
    yield Text.from_markup(f"\n[bold]{len(course.moves)} moves[/]")
    grid = Table.grid(padding=(0, 2, 0, 0))
    for move in course.moves[:_SHOWN_MOVES]:
        step = f"{move.knob} {move.before:.2f} → {move.after:.2f}"
        grid.add_row(_clock(move.at - course.start), step, escape(move.reason))
    yield grid
    if len(course.moves) > _SHOWN_MOVES:
        yield Text("…")


def _clock(seconds: float) -> str:
    minutes, left = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{left:02d}"


def _bullets(sentences: Iterable[str]) -> RenderableType:
    grid = Table.grid(padding=(0, 1, 0, 0))
    for sentence in sentences:
        grid.add_row(" •", sentence)
    return grid


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right", no_wrap=index > 0)
    return table
