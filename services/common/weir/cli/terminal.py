"""An answer on a terminal: each part in the color of its source, or under its name; then what it took."""

from __future__ import annotations

import io
from enum import StrEnum
from typing import Any

from rich.console import Console
from rich.segment import Segment, Segments
from rich.style import Style
from rich.text import Text

from weir.cli.answer import Answer
from weir.cli.log_lines import printable
from weir.cli.sources import SourceLines
from weir.client import Delta, Handoff, Source

SOURCE_COLORS = {
    Source.SLM: "green",
    Source.DRAFT: "cyan",
    Source.VERIFIER: "magenta",
    Source.FRONTIER: "yellow",
    Source.CACHE: "blue",
}


class ColorChoice(StrEnum):
    """When there are colors; AUTO: on a terminal, unless NO_COLOR is set."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


_CONSOLES: dict[ColorChoice, dict[str, Any]] = {
    ColorChoice.AUTO: {},
    ColorChoice.ALWAYS: {"force_terminal": True, "no_color": False, "color_system": "standard"},
    ColorChoice.NEVER: {"color_system": None},
}


class AnswerView:
    """Shows an answer on standard output, and what is said about it on standard error.

    Without ``sources`` standard output gets the answer's text and nothing else but colors; with them, each
    part begins on a line of its own that names who wrote it.
    """

    def __init__(self, *, color: ColorChoice = ColorChoice.AUTO, sources: bool = False) -> None:
        self._out = _console(color)
        self._notes = _console(color, stderr=True)
        self._lines = SourceLines(plain_ascii=not _can_write(self._out, "↵")) if sources else None
        self._at_line_start = True

    def delta(self, delta: Delta) -> None:
        """Show new text at once. Nothing that was shown is drawn again."""
        text = printable(delta.text)
        if self._lines:
            text = self._lines.add(text, delta.source)
        if not text:
            return
        # Text goes out as it is: rich's own wrapping would turn tabs into spaces.
        segment = Segment(text, Style.parse(SOURCE_COLORS.get(delta.source, "none")))
        self._out.print(Segments([segment]), end="")
        self._out.file.flush()
        self._at_line_start = text.endswith("\n")

    def handoff(self, handoff: Handoff) -> None:
        """Say, between the lines, that another tier goes on."""
        if self._notes.is_terminal:
            self.end_line()
            source = handoff.from_model or handoff.from_tier
            target = handoff.to_model or handoff.to_tier
            self._notes.print(Text(f"[{source} -> {target}: {handoff.reason.code}]", style="dim"))

    def end_line(self) -> None:
        """Begin a new line unless one has begun."""
        if not self._at_line_start:
            self._out.print()
            self._at_line_start = True

    def summary(self, answer: Answer, link: str) -> None:
        """Show who wrote how much, where several did or there are colors to explain, and the line."""
        self.end_line()
        colored = self._notes.color_system is not None and not self._notes.no_color
        if answer.sources and (colored or answer.mixed):
            mark = "■ " if colored and _can_write(self._notes, "■") else ""
            self._notes.print(_legend(answer, mark))
        parts = [*answer.facts(), link]
        self._notes.print(Text(" · ".join(filter(None, parts)), style="dim"))

    def error(self, sentence: str) -> None:
        """Show what went wrong."""
        self.end_line()
        self._notes.print(Text(printable(sentence), style="red"))


def _console(color: ColorChoice, *, stderr: bool = False) -> Console:
    console = Console(soft_wrap=True, highlight=False, stderr=stderr, **_CONSOLES[color])
    if isinstance(console.file, io.TextIOWrapper):
        # A terminal that cannot show a character shows another one in its place.
        console.file.reconfigure(errors="replace")
    return console


def _can_write(console: Console, text: str) -> bool:
    try:
        text.encode(console.encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _legend(answer: Answer, mark: str) -> Text:
    parts = [
        Text.assemble((mark, SOURCE_COLORS.get(source, "")), (f"{source.value} {_percent(share)}", "dim"))
        for source, share in answer.shares.items()
    ]
    return Text.assemble(Text("  " if mark else ", ").join(parts), (answer.drafting, "dim"))


def _percent(share: float) -> str:
    return "<1%" if 0 < share < 0.005 else f"{share:.0%}"
