"""An audit for people: a table of a hundred columns, then what it rests on."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta

from rich import box
from rich.console import Console, RenderableType
from rich.console import Group as Stack
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from weir.router.audit.report import MONTH_DAYS, UNSURE, Example, Group, Offer, Report

WIDTH = 100
NAMES = {"slm": "SLM", "hybrid": "HYBRID", "frontier": "FRONTIER"}
_COLORS = {"slm": "green", "hybrid": "cyan", "frontier": "magenta"}
_SHOWN_MODELS = 4


def show(report: Report, console: Console) -> None:
    """Print a report."""
    console.print(Stack(*_parts(report)))


def _parts(report: Report) -> Iterator[RenderableType]:
    yield _heading(report)
    yield _headline(report)
    yield _tiers(report)
    yield from _outlook(report)
    if report.offers:
        yield _menu(report.offers)
    if report.domains:
        yield _domains(report.domains)
    if report.examples:
        yield from _examples(report)
    yield from _basis(report)


def _heading(report: Report) -> RenderableType:
    read = f"{report.rows:,} prompts in {escape(report.file)} ({report.form}, {report.encoding})"
    if report.judged < report.rows:
        read += f"; a random sample of {report.judged:,} was judged, to which the figures belong"
    lines = [f"[bold]{read}.[/]"]
    if report.unusable:
        lines.append(f"[yellow]Rows that are not usable: {report.unusable:,}[/]")
        lines += [f"  {escape(problem)}" for problem in report.problems]
        lines += ["  …"] if report.unusable > len(report.problems) else []
    if report.flawed:
        lines.append(f"[yellow]Rows with impossible numbers: {report.flawed:,}[/]")
        lines += [f"  {escape(flaw)}" for flaw in report.flaws]
        lines += ["  …"] if report.flawed > len(report.flaws) else []
    return Text.from_markup("\n".join(lines))


def _headline(report: Report) -> RenderableType:
    total = report.total
    local = total.tiers.get("slm", 0.0) + total.tiers.get("hybrid", 0.0)
    kept = total.quality / total.quality_today if total.quality_today else 0.0
    share = (
        f", {total.saved_usd / total.today_usd:.0%} of what they cost today" if total.today_usd > 0 else ""
    )
    saved = (
        f"saves {usd(total.saved_usd)}{share}"
        if total.saved_usd >= 0
        else f"costs {usd(-total.saved_usd)} more"
    )
    sentence = (
        f"\nWith Weir, {local:.0%} of the prompts stay on local models, which [bold]{saved}[/], "
        f"at an expected [bold]{kept:.0%}[/] of today's quality.\n"
    )
    return Text.from_markup(sentence)


def _tiers(report: Report) -> Table:
    table = _table(
        "tier", "share", "prompts", "tokens in / out", "today", "with Weir", "saved", "right (exp.)"
    )
    for name, group in report.tiers.items():
        table.add_row(f"[{_COLORS[name]}]{NAMES[name]}[/]", *_figures(group))
    if report.refusals:
        count = sum(report.refusals.values())
        table.add_row("none", f"{count / report.judged:.1%}", f"{count:,}", *[""] * 5)
    table.add_section()
    table.add_row("all", *_figures(report.total), style="bold")
    return table


def _figures(group: Group) -> list[str]:
    return [
        f"{group.share:.1%}",
        f"{group.prompts:,}",
        f"{short(group.prompt_tokens)} / {short(group.completion_tokens)}",
        usd(group.today_usd),
        usd(group.weir_usd),
        usd(group.saved_usd),
        f"{group.quality:.2f}" if group.prompts else "-",
    ]


def _outlook(report: Report) -> Iterator[RenderableType]:
    pace = report.extrapolation
    if pace is None:
        yield Text(f"No month or year is extrapolated: {report.no_extrapolation}.")
    else:
        month = f"{usd(pace.month_today_usd)} → {usd(pace.month_weir_usd)} a month"
        year = f"{usd(pace.year_today_usd)} → {usd(pace.year_weir_usd)} a year"
        span = f"At the pace of the log's {_days(pace.days)}"
        caution = "" if pace.days >= MONTH_DAYS else " (a short time to judge a year by)"
        yield Text.from_markup(f"{span}: [bold]{month}[/], {year}{caution}.")
    total = report.total
    yield Text(
        f"Expected share of right answers: {total.quality:.2f}; "
        f"the strong model alone {total.quality_today:.2f}."
    )
    if report.least_escalated is not None:
        yield Text(
            f"For {report.target_quality:.0%} right answers at least {report.least_escalated:.0%} of the "
            "prompts must leave the small model, whoever chooses them."
        )


def _days(days: float) -> str:
    return f"{timedelta(days=days).days} days" if days >= 2 else f"{days * 24:.0f} hours"


def _domains(domains: Mapping[str, Group]) -> RenderableType:
    table = _table("where the money is", "prompts", "today", "with Weir", "saved", "SLM / HYBRID / FRONTIER")
    for name, group in domains.items():
        shares = " / ".join(f"{group.tiers.get(tier, 0.0):.0%}" for tier in NAMES)
        figures = (usd(group.today_usd), usd(group.weir_usd), usd(group.saved_usd))
        label = f"[dim]{name}[/]" if name == UNSURE else escape(name)
        table.add_row(label, f"{group.prompts:,}", *figures, shares)
    return table


def _menu(offers: Sequence[Offer]) -> RenderableType:
    table = _table("to keep of today's quality", "with Weir", "saved", "SLM / HYBRID / FRONTIER", "how")
    for offer in offers:
        shares = " / ".join(f"{offer.tiers.get(tier, 0.0):.0%}" for tier in NAMES)
        how = f"--target cost={_rounded_up(offer.cost_usd)}" if offer.cost_usd else "the local tiers alone"
        table.add_row(f"{offer.kept:.1%}", usd(offer.weir_usd), f"{offer.saved:.0%}", shares, how)
    return table


def _rounded_up(amount: float) -> str:
    """Write with three digits, never less than it is."""
    step = 10.0 ** (math.floor(math.log10(amount)) - 2)
    return f"{math.ceil(amount / step - 1e-9) * step:.3g}"


def _examples(report: Report) -> Iterator[RenderableType]:
    yield Text("\nExamples, from the easiest to the hardest of each tier (risk: that the small model fails)")
    for name, found in report.examples.items():
        for example in found:
            yield _example(name, example)


def _example(tier: str, example: Example) -> RenderableType:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(width=8)
    grid.add_column(width=9)
    grid.add_column(ratio=1)
    prompt = Text(example.prompt)
    grid.add_row(f"[{_COLORS[tier]}]{NAMES[tier]}[/]", f"[dim]risk {example.complexity:.2f}[/]", prompt)
    return grid


def _basis(report: Report) -> Iterator[RenderableType]:
    """Say what the figures rest on, weakest first."""
    yield Text.from_markup("\n[bold]What this rests on[/]")
    grid = Table.grid(padding=(0, 1, 0, 0))
    for sentence in _sentences(report):
        grid.add_row(" •", sentence)
    yield grid


def _sentences(report: Report) -> Iterator[str]:
    labels = report.classifier
    yield (
        f"Quality figures are estimates. The classifier ({labels.revision}) learned from {labels.rows:,} "
        f"questions ({escape(labels.data)}) on which {escape(labels.weak_model)} was the small model and "
        f"{escape(labels.strong_model)} the strong one; your models and your prompts differ. "
        "Train it on your own labels with `weir router train`."
    )
    yield f"Choice: {escape(report.rule)}."
    if report.estimated_tokens:
        yield (
            f"Tokens are estimated for {report.estimated_tokens:,} of {report.judged:,} prompts, for lack of "
            "usage in the log: four bytes each."
        )
    if report.answer_tokens is not None:
        yield (
            f"Answers that the log does not tell of count as {report.answer_tokens:.0f} tokens each "
            "(--answer-tokens)."
        )
    yield from _money(report)
    if report.same_local_model and report.tiers["hybrid"].prompts:
        yield (
            "HYBRID counts on a larger local model, but the configured verifier is the small model itself: "
            "configure one (tiers.hybrid.verifier_model) to get what is expected of it."
        )
    if report.personal_data:
        kinds = ", ".join(f"{kind} ({count:,})" for kind, count in report.personal_data.items())
        yield (
            f"Prompts hold personal data: {kinds}. Weir redacts it before a prompt leaves, or keeps the "
            "prompt local (routing.personal_data_residency)."
        )
    if report.refusals:
        reasons = ", ".join(f"{code} ({count})" for code, count in report.refusals.items())
        yield f"No tier may answer some prompts: {reasons}; their cost today counts on both sides."


def _money(report: Report) -> Iterator[str]:
    bases = list(report.price_bases.items())
    if bases:
        listed = "; ".join(f"{escape(basis)} ({count:,})" for basis, count in bases[:_SHOWN_MODELS])
        more = f"; {len(bases) - _SHOWN_MODELS} more" if len(bases) > _SHOWN_MODELS else ""
        yield f"Cost today: {listed}{more}."
    price = escape(report.fallback_price)
    unpriced = {model: count for model, count in report.unpriced_models.items() if model}
    if unpriced:
        models = list(unpriced.items())
        listed = ", ".join(f"{escape(model)} ({count:,})" for model, count in models[:_SHOWN_MODELS])
        yield f"No price is known for {listed}; priced as {price}."
    if unnamed := report.unpriced_models.get("", 0):
        yield f"The log does not name the model of {unnamed:,} prompts; priced as {price}."
    yield "A prompt that goes to the frontier keeps the model and the cost that it has today."
    free = [NAMES[name] for name, rates in report.local_usd_per_million.items() if not any(rates)]
    if free:
        yield (
            f"Local inference counted as free ({', '.join(free)}); price it with "
            "tiers.slm.run.input_usd_per_million and the like."
        )
    for name, (fresh, out) in report.local_usd_per_million.items():
        if fresh or out:
            yield f"{NAMES[name]} is priced at ${fresh:g} / ${out:g} per million tokens, as configured."


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right", no_wrap=True)
    return table


def usd(amount: float) -> str:
    """Write an amount with as many places as it needs: $1,234, $12.30, $0.0042."""
    sign, size = ("-" if amount < 0 else ""), abs(amount)
    if size >= 1000:
        return f"{sign}${size:,.0f}"
    if size >= 0.995 or size == 0:
        return f"{sign}${size:.2f}"
    return f"{sign}${size:.4f}" if size >= 0.0001 else f"{sign}<$0.0001"


def short(count: float) -> str:
    """Write a count of tokens: 950, 12k, 3.4M."""
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.1f}{unit}" if count < 10 * size else f"{count / size:.0f}{unit}"
    return f"{count:.0f}"
