"""Personal data and secrets out of a prompt before it leaves, and back into the answer."""

from __future__ import annotations

from collections.abc import Iterable

import regex

from weir.common.personal_data import Finding, find

# Told to the model when something was replaced, so that the answer keeps the placeholders as they are.
NOTICE = "Words in square brackets such as {example} stand for withheld data. Keep them exactly as they are."

# The kind of those findings that a model makes, not a pattern.
NAME = "NAME"
# Scripts that put no space around a name, or attach endings to it.
UNSPACED = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]")

# Characters of an original from which on its beginning is taken for one.
SHORTEST_PART = 5


def unfinished(text: str, originals: Iterable[str]) -> str:
    """Return what is missing from an original that ``text`` breaks off within; empty where it does not.

    Half an address is not recognized as one, so it would leave as it is. Beginnings that may be ordinary
    words, a single word without a digit or an "@", do not count.
    """
    known = sorted(originals, key=len, reverse=True)
    if text.endswith(tuple(known)):
        return ""
    for original in known:
        for size in range(len(original) - 1, SHORTEST_PART - 1, -1):
            if (
                _telling(original[:size])
                and text.endswith(original[:size])
                and not text[:-size][-1:].isalnum()
            ):
                return original[size:]
    return ""


def _telling(part: str) -> bool:
    words = len(part.split()) > 1 and part[-1:].isalpha()
    return words or any(character.isdigit() or character == "@" for character in part)


def _pattern(names: Iterable[str]) -> regex.Pattern[str] | None:
    """Match any of the names where it is not a part of a word, in scripts that part words by spaces."""
    known = {name for name in names if name}
    unspaced = {name for name in known if UNSPACED.search(name)}
    # An empty list would match everywhere.
    ways = {r"\L<unspaced>": unspaced, r"(?<!\w)\L<spaced>(?!\w)": known - unspaced}
    pattern = "|".join(way for way, members in ways.items() if members)
    if not pattern:
        return None
    # Kept in no cache: names outlive their request nowhere.
    return regex.compile(
        pattern, cache_pattern=False, ignore_unused=True, unspaced=unspaced, spaced=known - unspaced
    )


class Redactor:
    """Replaces personal data by placeholders, the same for the same text throughout one request.

    Args:
        texts: everything that will be redacted; no placeholder is used that occurs in it.
        names: people's names, replaced wherever they stand: a model may find one here and miss it there.
    """

    def __init__(self, texts: Iterable[str], names: Iterable[str] = ()) -> None:
        self._text = "\0".join(texts)
        self._names = _pattern(names)
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
        for start, end, kind in self._findings(text):
            parts += [text[position:start], self._placeholder(text[start:end], kind)]
            position = end
        return "".join([*parts, text[position:]])

    def _findings(self, text: str) -> list[Finding]:
        findings = find(text)
        if self._names is None:
            return findings
        taken = bytearray(len(text))
        for start, end, _ in findings:
            taken[start:end] = b"\1" * (end - start)
        named = (match.span() for match in self._names.finditer(text))
        free = [Finding(start, end, NAME) for start, end in named if taken.find(1, start, end) < 0]
        return sorted([*findings, *free])

    def _placeholder(self, original: str, kind: str) -> str:
        while original not in self._placeholders:
            self._counts[kind] = self._counts.get(kind, 0) + 1
            placeholder = f"[{kind}_{self._counts[kind]}]"
            if placeholder not in self._text:
                self._placeholders[original] = placeholder
        return self._placeholders[original]
