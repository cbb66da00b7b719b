"""Joining an answer that had to be begun anew, because it is held to a format, to the text that stands."""

from __future__ import annotations

import re

from weir.common.errors import ErrorCode, WeirError


class NotContinuedError(WeirError):
    """The provider began another answer than the one that stands; that says nothing about its health."""

    def __init__(self) -> None:
        super().__init__(ErrorCode.PROVIDER_FAILED, "The provider did not continue the text that was sent.")


class Restart:
    """Cuts the text that stands from an answer that was asked to begin with all of it.

    Such an answer is held to a format, so one that begins differently cannot be joined to what was sent.

    Args:
        prefix: the text that stands.
        json: whether white space outside of strings means nothing.
    """

    def __init__(self, prefix: str, *, json: bool) -> None:
        # Behind a number or a word the white space ends it, so there it stays.
        ends = json and not (prefix.rstrip()[-1:].isalnum() or _in_string(prefix))
        self._left = prefix.rstrip() if ends else prefix
        self._json = json
        self._string = self._escaped = False

    def feed(self, text: str) -> str:
        """See ``stages.Stage.feed``. Raises NotContinuedError where the texts differ."""
        for at, character in enumerate(text):
            if not self._left:
                return text[at:]
            self._take(character)
        return ""

    def flush(self) -> str:
        """See ``stages.Stage.flush``. Raises NotContinuedError where the answer ends too early."""
        if self._left:
            raise NotContinuedError
        return ""

    def _take(self, character: str) -> None:
        free = self._json and not self._string
        if free:
            kept = self._left.lstrip()
            self._left = kept or self._left
        if self._left[0] != character:
            if free and character.isspace():
                return
            raise NotContinuedError
        self._left = self._left[1:]
        if character == '"' and not self._escaped:
            self._string = not self._string
        self._escaped = self._string and character == "\\" and not self._escaped


def _in_string(json: str) -> bool:
    return len(re.findall(r'(?:\\.|[^"\\])*"', json, re.DOTALL)) % 2 == 1
