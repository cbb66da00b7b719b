"""Personal data and secrets out of a prompt before it leaves, and back into the answer."""

from __future__ import annotations

from collections.abc import Iterable

from weir.common.personal_data import find

# Told to the model when something was replaced, so that the answer keeps the placeholders as they are.
NOTICE = "Words in square brackets such as {example} stand for withheld data. Keep them exactly as they are."

# Characters of an original from which on its beginning is taken for one.
SHORTEST_PART = 5


def unfinished(text: str, originals: Iterable[str]) -> str:
    """Return what is missing from an original that ``text`` breaks off within; empty where it does not.

    Half an address is not recognized as one, so it would leave as it is. Beginnings that may be ordinary
    words, without a digit or an "@", do not count.
    """
    known = sorted(originals, key=len, reverse=True)
    if text.endswith(tuple(known)):
        return ""
    for original in known:
        for size in range(len(original) - 1, SHORTEST_PART - 1, -1):
            telling = any(character.isdigit() or character == "@" for character in original[:size])
            if telling and text.endswith(original[:size]) and not text[:-size][-1:].isalnum():
                return original[size:]
    return ""


class Redactor:
    """Replaces personal data by placeholders, the same for the same text throughout one request.

    Args:
        texts: everything that will be redacted; no placeholder is used that occurs in it.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self._text = "\0".join(texts)
        self._placeholders: dict[str, str] = {}
        self._counts: dict[str, int] = {}

    @property
    def originals(self) -> dict[str, str]:
        """Placeholder to original."""
        return {placeholder: original for original, placeholder in self._placeholders.items()}

    @property
    def notice(self) -> str:
        """A sentence for the model about the placeholders; empty where none was needed."""
        example = next(iter(self._placeholders.values()), "")
        return NOTICE.format(example=example) if example else ""

    def redact(self, text: str) -> str:
        """Return ``text`` with placeholders such as ``[EMAIL_1]``; linear in its length."""
        parts, position = [], 0
        for start, end, kind in find(text):
            parts += [text[position:start], self._placeholder(text[start:end], kind)]
            position = end
        return "".join([*parts, text[position:]])

    def _placeholder(self, original: str, kind: str) -> str:
        while original not in self._placeholders:
            self._counts[kind] = self._counts.get(kind, 0) + 1
            placeholder = f"[{kind}_{self._counts[kind]}]"
            if placeholder not in self._text:
                self._placeholders[original] = placeholder
        return self._placeholders[original]
