"""What an engine's own speculation drafted and accepted, read off the tokens that each of its steps adds."""

from __future__ import annotations


class Tally:
    """Follows one generation.

    A pass over drafted tokens adds those that stand and one of the model's own behind them (Leviathan et al.
    2023, algorithm 1), so of a step that adds n tokens n - 1 were accepted. Engines do not tell how many were
    drafted; counted are the positions that the pass checked, all that the answer had room for. The first step
    reads the prompt, and nothing is drafted for it.

    Args:
        length: tokens drafted at a time; 0 counts nothing.
        max_tokens: bound of the whole answer.
    """

    def __init__(self, length: int, max_tokens: int) -> None:
        self._length = length
        self._left = max_tokens
        self._started = False

    def take(self, added: int) -> tuple[int, int]:
        """Take a step of ``added`` tokens, at least one; return how many it drafted and accepted."""
        room = min(self._length, self._left - 1) if self._started else 0
        self._started = True
        self._left -= added
        drafted = max(0, room)
        return drafted, min(added - 1, drafted)
