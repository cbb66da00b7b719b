"""An answer on a terminal: each part in the color of who produced it, then one line about it."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from weir.cli.answer import Answer
from weir.cli.log_lines import printable
from weir.client import Delta, Handoff, Source

SOURCE_COLORS = {
    Source.SLM: "green",
    Source.DRAFT: "cyan",
    Source.VERIFIER: "magenta",
    Source.FRONTIER: "yellow",
    Source.CACHE: "blue",
}


class AnswerView:
    """Shows an answer on standard output, and what is said about it on standard error."""

    def __init__(self, *, color: bool | None = None) -> None:
        force = {"force_terminal": color} if color is not None else {}
        self._out = Console(soft_wrap=True, highlight=False, **force)  # type: ignore[arg-type]
        self._notes = Console(soft_wrap=True, highlight=False, stderr=True, **force)  # type: ignore[arg-type]
        self._at_line_start = True

    def delta(self, delta: Delta) -> None:
        """Show new text at once."""
        text = printable(delta.text)
        self._out.print(Text(text, style=SOURCE_COLORS.get(delta.source, "")), end="")
        self._out.file.flush()
        if text:
            self._at_line_start = text.endswith("\n")

    def handoff(self, handoff: Handoff) -> None:
        """Say, between the lines, that another tier goes on."""
        if self._notes.is_terminal:
            self.end_line()
            self._notes.print(
                Text(f"[{handoff.from_tier} -> {handoff.to_tier}: {handoff.reason.code}]", style="dim")
            )

    def end_line(self) -> None:
        """Begin a new line unless one has begun."""
        if not self._at_line_start:
            self._out.print()
            self._at_line_start = True

    def summary(self, answer: Answer, link: str) -> None:
        """Show the legend, where there are colors, and the line."""
        self.end_line()
        if self._notes.is_terminal and not self._notes.no_color and answer.sources:
            self._notes.print(_legend(answer))
        parts = [*answer.facts(), link]
        self._notes.print(Text(" · ".join(filter(None, parts)), style="dim"))

    def error(self, sentence: str) -> None:
        """Show what went wrong."""
        self.end_line()
        self._notes.print(Text(printable(sentence), style="red"))


def _legend(answer: Answer) -> Text:
    marks = [
        Text.assemble(("■ ", SOURCE_COLORS.get(source, "")), (source.value, "dim"), (f" {share}", "dim"))
        for source, count in answer.sources.items()
        for share in [f"{count}" if count else ""]
    ]
    return Text("  ").join(marks)
