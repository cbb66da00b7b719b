"""Which drafted chunks stand after a verdict: the rule that drafter and verifier share. Pure."""

from __future__ import annotations

from collections.abc import Sequence


class Standing:
    """Which of the chunks that come follow what the verifier has said.

    Drafter and verifier decide alike from what both have. A verdict on chunk ``s`` says how many of its
    tokens stand and which ``correction`` follows them. M is the largest ``chunks_ahead`` told in the start
    and in the verdicts before this one, so that nothing numbered ``s + M`` or higher was drafted before the
    verdict came.

    1. Where all of ``s`` stands and the correction, which may be empty, is a prefix of the tokens that were
       drafted after ``s``, all later chunks stand and the numbers go on. What the correction has said is not
       judged again: a chunk that lies in it whole gets no verdict; the next one begins, for the verifier,
       behind it, and the verdict on that one counts its accepted tokens from its very beginning.
    2. Otherwise every later chunk is void and gets no verdict. What is drafted anew follows the correction
       and is numbered ``s + M``, or higher.

    The drafter knows what it had drafted when the verdict came. The verifier knows as well: a chunk numbered
    below ``s + M`` was drafted before, and its tokens tell whether rule 1 holds; with ``s + M`` or higher,
    rule 2 did. Numbers only rise. A drafter drafts nothing behind an empty chunk until its verdict comes.

    Args:
        chunks_ahead: as told in the start.
    """

    def __init__(self, chunks_ahead: int) -> None:
        self._most_ahead = chunks_ahead
        self._latest = -1
        self._fresh = 0
        # What is still to be found at the beginning of the chunks below ``_fresh``; ``None``: they are void.
        self._said: tuple[int, ...] | None = ()

    @property
    def latest(self) -> int:
        """The highest number seen, -1 before the first."""
        return self._latest

    def judged(self, sequence: int, *, whole: bool, correction: Sequence[int], chunks_ahead: int) -> None:
        """Take the verdict on chunk ``sequence``, of which all stands if ``whole``, as it is sent."""
        self._said = tuple(correction) if whole else None
        self._fresh = sequence + self._most_ahead
        self._most_ahead = max(self._most_ahead, chunks_ahead)

    def place(self, sequence: int, ids: Sequence[int]) -> int | None:
        """Return how many leading tokens of a chunk are said already; ``None`` if it is void or said whole.

        ``sequence`` is above all before it.
        """
        self._latest = sequence
        if sequence >= self._fresh:
            self._said = ()
        if self._said is None:
            return None
        covered = min(len(self._said), len(ids))
        if tuple(ids[:covered]) != self._said[:covered]:
            self._said = None
            return None
        whole = bool(self._said) and covered == len(ids)
        self._said = self._said[covered:]
        return None if whole else covered
