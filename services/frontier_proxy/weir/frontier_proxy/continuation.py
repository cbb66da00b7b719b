"""Joining what a provider writes to the text that stands: what it repeats is cut, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Callable

from weir.frontier_proxy.quoting import ClosingQuote

# Characters besides white space. "ha" may well be followed by another "ha".
SHORTEST_WHOLE = 12
# Of all positions in this project's prose and code none is followed by a copy of the 20 characters before it,
# but for tables and rules, whose text repeats within itself; with 12 it is one in four thousand.
SHORTEST_TAIL = 20
# How far back a repeated tail may begin, which bounds what is held back.
FURTHEST_TAIL = 1000
# What a model puts before a repetition.
_LEAD = re.compile(r"\s*([\"“«]?)[.…]*\s*")
_WORD_START = re.compile(r"\b\w|[^\w\s]|[⺀-鿿가-힯]")


def written_anew(standing: str, new: str) -> str:
    """Return what remains of white space at a provider's start where it writes the ``standing`` one anew."""
    if new.startswith(standing):
        return new[len(standing) :]
    return new if "\n" in new and "\n" not in standing else ""


def written_on(standing: str, new: str) -> str:
    """Return what remains of white space at the start of a plain continuation.

    Blanks that stand already go: they are a space between words, or an indentation. A line feed stays: after
    one that stands it makes a paragraph.
    """
    blanks = standing[standing.rfind("\n") + 1 :]
    return new.removeprefix(blanks)


class Joint:
    """Fits the white space at the start of the text to the white space that stands before it.

    Args:
        prefix: the text that stands.
        fit: ``written_anew`` or ``written_on``.
    """

    def __init__(self, prefix: str, fit: Callable[[str, str], str] = written_anew) -> None:
        self._standing = prefix[len(prefix.rstrip()) :]
        self._fit = fit
        self._held = ""
        self._settled = not self._standing

    def feed(self, text: str) -> str:
        """See ``stages.Stage.feed``."""
        if self._settled:
            return text
        self._held += text
        return "" if self._held.isspace() or not self._held else self.flush()

    def flush(self) -> str:
        """See ``stages.Stage.flush``."""
        if self._settled:
            return ""
        self._settled = True
        body = self._held.lstrip()
        return self._fit(self._standing, self._held[: len(self._held) - len(body)]) + body


class Overlap:
    """What of a text's end a continuation repeats. White space and a ``lead`` are overlooked.

    The longest of these counts: all of the text, with at least ``SHORTEST_WHOLE`` characters; or an end of it
    from the start of a word on, with at least ``SHORTEST_TAIL`` and at most ``FURTHEST_TAIL``. An end that
    repeats within the text (a table, a refrain) may go on doing so, and does not count.
    """

    def __init__(self, text: str) -> None:
        lead = _lead(text)
        self._text = _solid(text[lead:])
        starts = [0] if len(self._text) >= SHORTEST_WHOLE else []
        first = len(self._text) - FURTHEST_TAIL
        at = 0
        for word in text[lead:].split():
            inner = (at + match.start() for match in _WORD_START.finditer(word))
            starts += [start for start in inner if start > 0 and start >= first]
            at += len(word)
        last = len(self._text) - SHORTEST_TAIL
        self._starts = [start for start in starts if start == 0 or start <= last]

    def open(self, new: str) -> bool:
        """Whether ``new``, which may go on, may yet become a repetition, or a longer one than it is."""
        body = _solid(new[_lead(new) :])
        return any(
            len(self._text) - start > len(body) and self._text.startswith(body, start)
            for start in self._starts
        )

    def length(self, new: str) -> int:
        """Return how many characters at the start of ``new`` are repeated; 0 where it repeats nothing."""
        lead = _lead(new)
        body = _solid(new[lead:])
        for start in self._starts:
            tail = self._text[start:]
            if body.startswith(tail) and not self._repeats_itself(start):
                return lead + _position(new[lead:], len(tail))
        return 0

    def _repeats_itself(self, start: int) -> bool:
        tail = self._text[start:]
        if self._text[:start].endswith(tail):
            return True
        return any(tail.startswith(tail[period:]) for period in range(1, len(tail) // 2 + 1))


class Trim:
    """Cuts the text that stands from an answer that was asked to go on from it and repeats it instead.

    Text is held back only while it may become such a repetition; after the first that does not, all passes.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix, self._overlap = prefix, Overlap(prefix)
        self._held = ""
        self._joint: Joint | None = None
        self._closing = ClosingQuote()

    def feed(self, text: str) -> str:
        """See ``stages.Stage.feed``."""
        if self._joint:
            return self._closing.feed(self._joint.feed(text))
        self._held += text
        return "" if self._overlap.open(self._held) else self._decide()

    def flush(self) -> str:
        """See ``stages.Stage.flush``."""
        text = "" if self._joint else self._decide()
        joint = self._joint.flush() if self._joint else ""
        return text + self._closing.feed(joint) + self._closing.flush()

    def _decide(self) -> str:
        cut = self._overlap.length(self._held)
        self._joint = Joint(self._prefix, written_anew if cut else written_on)
        if cut and (lead := _LEAD.match(self._held)):
            self._closing = ClosingQuote(lead[1], self._prefix)
        held, self._held = self._held[cut:], ""
        return self._closing.feed(self._joint.feed(held))


def _lead(text: str) -> int:
    found = _LEAD.match(text)
    return found.end() if found else 0


def _solid(text: str) -> str:
    return "".join(text.split())


def _position(text: str, count: int) -> int:
    """Return the index behind the first ``count`` characters that are no white space."""
    for at, character in enumerate(text):
        if count == 0:
            return at
        count -= not character.isspace()
    return len(text)
