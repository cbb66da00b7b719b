"""Telephone numbers, by libphonenumber's metadata."""

from __future__ import annotations

import re
from collections.abc import Iterator

import phonenumbers

from weir.common.personal_data.candidates import Span

# Numbers written without a country code are tried as numbers of these countries.
REGIONS = ("US", "GB", "DE")
# The matcher takes some milliseconds per kilobyte; most prompts have no seven digits near each other.
_HINT = re.compile(r"\d(?:[^\w\n]{0,4}\d){6}")
# A number and what the matcher looks at around it stay within this.
_MARGIN = 40
# Shorter texts are matched whole in any case: what stands around a number decides whether it is one.
_EXACT_CHARS = 2_048
# Characters given to the matcher for each try: all in all some tens of milliseconds for two hundred.
_CHARS_PER_TRY = 20


def likely(text: str) -> bool:
    """Whether the text has digits enough, near enough to each other."""
    return _HINT.search(text) is not None


def spans(text: str, tries: int | None = None) -> Iterator[Span]:
    """Yield where telephone numbers stand; overlapping ones are possible, one per region.

    With ``tries`` only what is near enough digits is matched in a long text, which may find more.
    """
    if tries is None or len(text) <= _EXACT_CHARS:
        yield from _matches(text) if likely(text) else ()
        return
    left, end = tries * _CHARS_PER_TRY, 0
    for hint in _HINT.finditer(text):
        if hint.end() <= end:
            continue
        start, end = max(end - _MARGIN, hint.start() - _MARGIN, 0), hint.end() + _MARGIN
        if left <= 0:
            yield hint.span()
            return
        left -= end - start
        yield from ((start + at, start + to) for at, to in _matches(text[start:end]))


def _matches(text: str) -> Iterator[Span]:
    for region in REGIONS:
        for number in phonenumbers.PhoneNumberMatcher(text, region):
            yield number.start, number.end
