"""Where sentences and lines of running text are complete, as it grows."""

from __future__ import annotations

import re

# Ideographic full stops, full-width exclamation and question marks; typographic and CJK closing marks.
_CJK_MARKS = r"\u3002\uff01\uff1f\uff61"
_CLOSING = r"\"')\]\u2019\u201d\u00bb\u300d\u300f\uff09\u3011\u3009\u300b"
_OPENING = "([{\"'*_`\u2018\u201c\u00ab"
# A run of white space whose end is known, or the end of a sentence in scripts without spaces.
_STOP = re.compile(rf"(?P<space>\s++)(?=\S)|[{_CJK_MARKS}]++[{_CLOSING}]*+(?=\S)")
# The last word before a space: its letters, the marks that end a sentence, what closes around them.
_WORD = re.compile(rf"(?P<stem>.*?)(?P<marks>[.!?\u2026{_CJK_MARKS}]+)[{_CLOSING}*_`]*", re.DOTALL)
# "J", "U.S", "e.g", "a.m": a period after these belongs to them.
_INITIALS = re.compile(r"(?:\w\.)*\w")
_ENUMERATOR = re.compile(r"\(?(?:\d{1,3}|[ivxlc]{1,6}|[a-z])(?:\.\d{1,3})*", re.IGNORECASE)
_FENCE = re.compile(r" {0,3}(?:```|~~~)")
# English, after which a capital or a figure follows within the sentence as a rule.
_ABBREVIATION = re.compile(
    r"mrs?|ms|dr|prof|st|sr|jr|rev|hon|gen|col|capt|lt|sgt|gov|sen|rep|pres|mt|ft|messrs|mme|mlle"
    r"|figs?|eqs?|sec|ch|chap|vols?|nos?|pp|pg|eds?|trans|art|cf|al|vs|viz|ca|approx|est|incl"
    r"|dept|univ|assn|bros|inc|ltd|co|corp|llc|ave|blvd|rd"
    r"|jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec|mon|tues?|wed|thu(?:rs?)?|fri|sat|sun",
    re.IGNORECASE,
)


class ProseBoundaries:
    """Ends of lines and sentences.

    A unit ends behind a line break and the blank lines that follow it, and before the space behind a
    sentence. Within a code fence only lines end. A period ends no sentence behind an abbreviation, an initial
    or a list's number, nor where no white space follows (decimals, addresses), nor where a lower-case letter
    does. The rules are a few of pySBD's (Sadvilkar and Neumann 2020, arXiv 2010.09657), and rather miss an
    end than find a false one.
    """

    def __init__(self) -> None:
        self._taken = 0
        self._line = ""
        self._scanned = 0
        self._fenced = False

    def feed(self, text: str) -> list[int]:
        """Take more text and return the ends that are certain now, in characters from the very start."""
        self._line += text
        self._taken += len(text)
        ends: list[int] = []
        while stop := _STOP.search(self._line, self._scanned):
            breaks = stop.group().rfind("\n") + 1 if stop["space"] else 0
            if breaks:
                ends.append(self._taken - len(self._line) + stop.start() + breaks)
                self._next_line(stop.start(), breaks)
                continue
            at = stop.start() if stop["space"] else stop.end()
            if not self._fence_like() and self._ends_sentence(stop):
                ends.append(self._taken - len(self._line) + at)
            self._scanned = stop.end()
        return ends

    def _next_line(self, end: int, breaks: int) -> None:
        if _FENCE.match(self._line):
            self._fenced = not self._fenced
        self._line = self._line[end + breaks :]
        self._scanned = 0

    def _fence_like(self) -> bool:
        return self._fenced or _FENCE.match(self._line) is not None

    def _ends_sentence(self, stop: re.Match[str]) -> bool:
        if not stop["space"]:
            return True
        words = self._line[: stop.start()].split()
        found = _WORD.fullmatch(words[-1]) if words else None
        if found is None or self._line[stop.end()].islower():
            return False
        return found["marks"] != "." or not _keeps_period(
            found["stem"].lstrip(_OPENING), first=len(words) == 1
        )


def _keeps_period(stem: str, *, first: bool) -> bool:
    if first and _ENUMERATOR.fullmatch(stem):
        return True
    return (_ABBREVIATION.fullmatch(stem) or _INITIALS.fullmatch(stem)) is not None
