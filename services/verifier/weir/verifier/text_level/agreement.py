"""What the verifier has said against what a drafter wrote to follow it, byte by byte. Pure."""

from __future__ import annotations


class Agreement:
    """The text said so far, and what a drafter proposes behind it.

    Bytes, because a token may end within a character. While both say the same, what the verifier says is
    taken off what is proposed; what it says first, the drafter has yet to repeat.

    Args:
        spelled_space: the first token spells a space that the text has not (SentencePiece).
    """

    def __init__(self, *, spelled_space: bool = False) -> None:
        self._spelled_space = spelled_space
        self._said = bytearray()
        self._owed = bytearray()
        self._trimmed = ""
        self._lead: str | None = None
        self.pending = bytearray()
        self.agrees = True

    @property
    def text(self) -> str | None:
        """What was said, ``None`` while it ends within a character."""
        try:
            return self._said.decode()
        except UnicodeDecodeError:
            return None

    @property
    def ahead(self) -> bool:
        """Whether more was said than the drafter has written."""
        return bool(self._owed)

    def restart(self, said: str) -> str:
        """Begin again: return ``said``, which is all of ``text``, as a drafter should be given it.

        White space at its end is left out, because chat templates trim it and drafters rather write a space
        themselves; what the drafter then writes in its place is skipped.
        """
        body = said.rstrip()
        self._trimmed, self._lead = said[len(body) :], ""
        self._owed.clear()
        self.pending.clear()
        self.agrees = True
        return body

    def propose(self, text: str) -> None:
        """Take what the drafter wrote next; ``agrees`` tells whether it still follows what was said."""
        if self._lead is not None:
            self._lead += text
            rest = _behind(self._trimmed, self._lead)
            if rest is None:
                return
            text, self._lead = rest, None
        data = text.encode()
        repeated = min(len(self._owed), len(data))
        self.agrees = self.agrees and data[:repeated] == self._owed[:repeated]
        del self._owed[:repeated]
        self.pending += data[repeated:]

    def say(self, data: bytes) -> bytes:
        """Take what the verifier said next, and return it; ``agrees`` tells whether it was proposed."""
        if self._spelled_space and data:
            self._spelled_space = False
            data = data.removeprefix(b" ")
        self._said += data
        proposed = min(len(self.pending), len(data))
        self.agrees = self.agrees and data[:proposed] == self.pending[:proposed]
        del self.pending[:proposed]
        self._owed += data[proposed:]
        return data


def _behind(trimmed: str, lead: str) -> str | None:
    """Return what follows the trimmed white space, or other in its place; ``None`` if not yet known."""
    if lead.startswith(trimmed):
        return lead[len(trimmed) :]
    return lead.lstrip() or None
