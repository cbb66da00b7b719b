"""Prompts as they may be shown: personal data masked, one line, shortened."""

from __future__ import annotations

from weir.common.personal_data import find

SHOWN_CHARS = 150
# More than is shown, so that what would be cut in two is still recognized.
_READ_CHARS = 2_000


def shown(text: str, length: int = SHOWN_CHARS) -> str:
    """Return the beginning of ``text`` with ``[EMAIL]`` and the like for what ``personal_data`` finds.

    Names and postal addresses are not found. Control characters are left out, so that a log cannot steer the
    terminal.
    """
    head = text[:_READ_CHARS]
    parts, position = [], 0
    for start, end, kind in find(head):
        parts += [head[position:start], f"[{kind.upper()}]"]
        position = end
    whole = "".join([*parts, head[position:]])
    line = " ".join("".join(c for c in whole if c.isprintable() or c.isspace()).split())
    return line if len(line) <= length else line[: length - 1].rstrip() + "…"
