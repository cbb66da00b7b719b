"""Prompt lookup finds what a search through the whole sequence finds, however that came about."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.engines.text.lookup import NgramIndex, Proposal

TOKENS = st.lists(st.integers(0, 3), max_size=6)
CHANGES = st.lists(st.tuples(st.integers(0, 8), TOKENS), max_size=12)


def _search(ids: Sequence[int], longest: int, shortest: int, count: int) -> Proposal | None:
    """Look at every earlier position, the longest match and then the last position first."""
    for length in range(min(longest, len(ids)), shortest - 1, -1):
        tail = list(ids[len(ids) - length :])
        for end in range(len(ids) - 1, length - 1, -1):
            if list(ids[end - length : end]) == tail:
                copied = list(ids[end:])
                while len(copied) < count:
                    copied.append(copied[end - len(ids)])
                return Proposal(tuple(copied[:count]), length)
    return None


@given(CHANGES, st.integers(1, 3), st.integers(0, 3), st.integers(1, 7))
def test_index_finds_what_a_search_finds(
    changes: list[tuple[int, list[int]]], shortest: int, more: int, count: int
) -> None:
    index, ids = NgramIndex(shortest + more, shortest), list[int]()
    for taken_back, added in changes:
        kept = max(0, len(ids) - taken_back)
        ids = ids[:kept] + added
        index.truncate(kept)
        index.extend(added)
        assert len(index) == len(ids)
        assert index.propose(count) == _search(ids, shortest + more, shortest, count)


@given(CHANGES)
def test_what_was_taken_back_leaves_no_trace(changes: list[tuple[int, list[int]]]) -> None:
    index, fresh = NgramIndex(4, 2), NgramIndex(4, 2)
    index.extend([1, 2, 3, 1, 2])
    for _, added in changes:
        index.extend(added)
        index.truncate(5)
    fresh.extend([1, 2, 3, 1, 2])
    assert vars(index) == vars(fresh)


def test_longer_match_goes_before_a_later_one() -> None:
    index = NgramIndex(3, 1)
    index.extend([1, 2, 3, 7, 9, 3, 8, 1, 2, 3])
    assert index.propose(1) == Proposal((7,), 3)


def test_later_match_goes_before_an_earlier_one() -> None:
    index = NgramIndex(2, 2)
    index.extend([1, 2, 5, 1, 2, 6, 1, 2])
    assert index.propose(1) == Proposal((6,), 2)


def test_copy_goes_on_with_what_it_copied() -> None:
    index = NgramIndex(2, 2)
    index.extend([4, 5, 6, 4, 5])
    assert index.propose(7) == Proposal((6, 4, 5, 6, 4, 5, 6), 2)


def test_copy_ends_with_a_stop_token() -> None:
    index = NgramIndex(2, 2)
    index.extend([4, 5, 6, 0, 7, 4, 5])
    assert index.propose(4, frozenset({0})) == Proposal((6, 0), 2)


@pytest.mark.parametrize("ids", [[], [1], [1, 2], [1, 2, 3]])
def test_nothing_is_proposed_without_a_match(ids: list[int]) -> None:
    index = NgramIndex(4, 2)
    index.extend(ids)
    assert index.propose(4) is None
