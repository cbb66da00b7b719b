"""Where members and values of a JSON text are complete, as it grows."""

from __future__ import annotations

_SPACE = frozenset(" \t\r\n")
_BARE = frozenset("+-.0123456789eEtrufalsn")  # numbers, true, false, null
_CLOSES = {"}": "{", "]": "["}


class JsonBoundaries:
    """Ends of members and elements, behind their commas, and of the whole value; none within a string.

    It follows strings, escapes and nesting; the grammar itself is the constraint's to keep. Text that cannot
    be JSON at all sets ``broken``: what is from there on, ``taken`` says.
    """

    def __init__(self) -> None:
        self.taken = 0
        self.broken = False
        self._open: tuple[str, ...] = ()
        self._quoted = self._escaped = self._begun = False

    @property
    def complete(self) -> bool:
        """Whether the outermost value has ended."""
        return self._begun and not self._open and not self._quoted

    def feed(self, text: str) -> list[int]:
        """Take more text, up to where it breaks or the value is complete, and return the ends of units in it.

        They are counted in characters from the very start. ``taken`` tells how much was taken.
        """
        ends: list[int] = []
        for character in text:
            if self.complete or not self._take(character):
                break
            self.taken += 1
            if self.complete or (character == "," and not self._quoted):
                ends.append(self.taken)
        return ends

    def _take(self, character: str) -> bool:
        if self._quoted:
            self._in_string(character)
        elif character == '"':
            self._quoted = self._begun = True
        elif character in "{[":
            self._open += (character,)
            self._begun = True
        elif character in _CLOSES:
            self._close(character)
        elif character in ",:":
            self.broken = not self._open
        else:
            self.broken = character not in _SPACE and (character not in _BARE or not self._open)
        return not self.broken

    def _in_string(self, character: str) -> None:
        if self._escaped:
            self._escaped = False
        elif character == "\\":
            self._escaped = True
        elif character == '"':
            self._quoted = False

    def _close(self, character: str) -> None:
        self.broken = not self._open or self._open[-1] != _CLOSES[character]
        if not self.broken:
            self._open = self._open[:-1]
