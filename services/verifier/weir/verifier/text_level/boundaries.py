"""Where a growing text may be cut: between sentences and lines, or between JSON values."""

from __future__ import annotations

from weir.verifier.text_level.json_values import JsonBoundaries
from weir.verifier.text_level.prose import ProseBoundaries


class Boundaries:
    """The ends of a text's units, found as it streams: the same ones however it is divided.

    A text that begins with a bracket is taken for JSON until it is none; what follows its value is prose.
    ``copy.deepcopy`` gives a scanner for a continuation that may yet turn out otherwise.

    Args:
        json: the text is JSON by its constraint, so that a quote begins a value too.
    """

    def __init__(self, *, json: bool = False) -> None:
        self._opening = '{["' if json else "{["
        self._scanner: JsonBoundaries | ProseBoundaries | None = None
        self._from = 0
        self.taken = 0

    def feed(self, text: str) -> list[int]:
        """Take more text and return the ends that are certain now: characters from the start, ascending."""
        if self._scanner is None:
            text = self._begin(text)
        ends: list[int] = []
        if isinstance(self._scanner, JsonBoundaries):
            ends = self._found(self._scanner.feed(text))
            used = self._from + self._scanner.taken - self.taken
            self.taken += used
            text = text[used:]
            if text:
                self._scanner, self._from = ProseBoundaries(), self.taken
        if isinstance(self._scanner, ProseBoundaries):
            ends += self._found(self._scanner.feed(text))
            self.taken += len(text)
        return ends

    def _begin(self, text: str) -> str:
        """Skip leading white space; the first character behind it says what the text is."""
        rest = text.lstrip()
        self.taken += len(text) - len(rest)
        if rest:
            self._scanner = JsonBoundaries() if rest[0] in self._opening else ProseBoundaries()
            self._from = self.taken
        return rest

    def _found(self, ends: list[int]) -> list[int]:
        return [self._from + end for end in ends]
