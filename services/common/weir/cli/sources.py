"""An answer told by who wrote it, where colors cannot or should not: a line for each part, with a name."""

from __future__ import annotations

from weir.client import Source

WIDTH = max(len(source) for source in Source)


class SourceLines:
    """Turns streamed text into named lines, each part beginning on its own.

    ::

        draft       | The capital of
        verifier    |  France
        draft       |  is Paris.↵
                    | It is on the Seine.

    A line break of the answer itself is marked, so that the answer can be told from the layout.

    Args:
        plain_ascii: mark line breaks with a backslash and an n, where the arrow cannot be written.
    """

    def __init__(self, *, plain_ascii: bool = False) -> None:
        self._break = "\\n" if plain_ascii else "↵"
        self._source: Source | None = None
        self._at_line_start = True

    def add(self, text: str, source: Source) -> str:
        """Return what to write for new text; empty text writes nothing and begins no part."""
        written: list[str] = []
        for line in text.splitlines(keepends=True):
            written.append(self._margin(source))
            content = line.removesuffix("\n")
            self._at_line_start = content != line
            written += [content, f"{self._break}\n" if self._at_line_start else ""]
        return "".join(written)

    def _margin(self, source: Source) -> str:
        if source is not self._source:
            begun, self._source = not self._at_line_start, source
            return f"{chr(10) if begun else ''}{source.value:<{WIDTH}} | "
        return f"{'':<{WIDTH}} | " if self._at_line_start else ""
