"""Prompt lookup: propose what followed an earlier occurrence of the last tokens.

Saxena, "Prompt Lookup Decoding" (2023); that the answer so far is searched as well is REST's idea (He et al.,
arXiv 2311.08252) with the conversation as its only data.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Proposal:
    """Tokens that followed the most recent earlier occurrence of the last ``ngram`` tokens."""

    ids: tuple[int, ...]
    ngram: int


class NgramIndex:
    """Where each n-gram of a growing and shrinking sequence occurred last.

    A token costs O(max_ngram - min_ngram + 1) to append, and the same to take back: each keeps what its
    n-grams had pointed to before.

    Args:
        max_ngram: tokens that are matched at most; longer matches go first.
        min_ngram: tokens that must match; at least 1.
    """

    def __init__(self, max_ngram: int, min_ngram: int) -> None:
        self._lengths = range(max_ngram, min_ngram - 1, -1)
        self._ids: list[int] = []
        self._last: dict[tuple[int, ...], int] = {}
        # For each token and each length, the position before of the n-gram that ends there; -1: none.
        self._earlier: list[tuple[int, ...]] = []

    def __len__(self) -> int:
        return len(self._ids)

    def extend(self, ids: Iterable[int]) -> None:
        """Append tokens."""
        for token in ids:
            self._ids.append(token)
            position = len(self._ids) - 1
            grams = self._ending()
            self._earlier.append(tuple(self._last.get(gram, -1) for gram in grams))
            self._last.update(dict.fromkeys(grams, position))

    def truncate(self, length: int) -> None:
        """Forget everything past the first ``length`` tokens."""
        while len(self._ids) > length:
            for gram, before in zip(self._ending(), self._earlier.pop(), strict=True):
                if before < 0:
                    del self._last[gram]
                else:
                    self._last[gram] = before
            self._ids.pop()

    def propose(self, count: int, stop_ids: frozenset[int] = frozenset()) -> Proposal | None:
        """Return up to ``count`` tokens, none of them after one of ``stop_ids``; ``None`` without a match.

        Where the occurrence overlaps the end, the copy goes on with what it has copied, as in LZ77.
        """
        if not self._earlier or count < 1:
            return None
        for length, before in zip(self._fitting(len(self._ids)), self._earlier[-1], strict=True):
            if before >= 0:
                return Proposal(tuple(self._copy(before + 1, count, stop_ids)), length)
        return None

    def _copy(self, start: int, count: int, stop_ids: frozenset[int]) -> Sequence[int]:
        copied: list[int] = []
        period = len(self._ids) - start
        for step in range(count):
            copied.append(self._ids[start + step % period])
            if copied[-1] in stop_ids:
                break
        return copied

    def _ending(self) -> list[tuple[int, ...]]:
        """Return the n-grams that end with the last token, the longest first."""
        size = len(self._ids)
        return [tuple(self._ids[size - length :]) for length in self._fitting(size)]

    def _fitting(self, size: int) -> range:
        """Return the lengths that ``size`` tokens have room for, the longest first."""
        return range(min(self._lengths.start, size), self._lengths.stop, -1)
