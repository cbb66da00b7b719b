"""Quotation marks that a provider puts around an answer."""

from __future__ import annotations

import re

_PAIRS = {'"': '"', "“": "”", "«": "»"}


class ClosingQuote:
    """Takes the mark from the end of a text whose opening mark was cut, unless it belongs to the text.

    It does where the marks of the text, what stands before it included, come in pairs with it.

    Args:
        opening: the mark that was cut; empty: the text passes as it is.
        before: what stands before the text.
    """

    def __init__(self, opening: str = "", before: str = "") -> None:
        self._opening = opening
        self._closing = _PAIRS.get(opening, "")
        self._end = re.compile(re.escape(self._closing) + r"\s*\Z")
        self._held = ""
        self._surplus = self._count(before)

    def feed(self, text: str) -> str:
        """See ``stages.Stage.feed``."""
        if not self._closing:
            return text
        text = self._held + text
        found = self._end.search(text)
        cut = found.start() if found else len(text)
        self._held = text[cut:]
        self._surplus += self._count(text[:cut])
        return text[:cut]

    def flush(self) -> str:
        """See ``stages.Stage.flush``."""
        held, self._held = self._held, ""
        surplus = self._surplus + self._count(held)
        alone = surplus % 2 == 1 if self._opening == self._closing else surplus > 0
        return "" if alone else held

    def _count(self, text: str) -> int:
        """Return the closing marks beyond the opening ones; where both look alike, all of them."""
        if self._opening == self._closing:
            return text.count(self._closing) if self._closing else 0
        return text.count(self._closing) - text.count(self._opening)
