"""Blocks of KV cache: never lost, never held twice, refused when there are none."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.engines.core.backend import RequestFailed
from weir.engines.core.openvino.kv_pool import KvPool, Sequence

BLOCKS, TOKENS = 12, 4


def fed(sequence: Sequence, tokens: int) -> None:
    sequence.reserve(tokens)
    sequence.length += tokens


@given(
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["feed", "rewind", "close"]), st.integers(0, 9)))
)
def test_every_block_is_free_or_held_once_whatever_is_done(steps: list[tuple[int, str, int]]) -> None:
    pool = KvPool(BLOCKS, TOKENS)
    sequences = [Sequence(pool) for _ in range(4)]
    for which, action, tokens in steps:
        sequence = sequences[which]
        if action == "feed":
            with suppress(RequestFailed):
                fed(sequence, tokens)
        elif action == "rewind":
            sequence.rewind(min(tokens, sequence.length))
        else:
            sequence.close()
        held = [block for each in sequences for block in each.blocks]
        assert len(set(held)) == len(held) <= BLOCKS
        assert pool.used == pytest.approx(len(held) / BLOCKS)
        assert all(len(each.blocks) * TOKENS >= each.length for each in sequences)
    for sequence in sequences:
        sequence.close()
    assert pool.used == 0


def test_a_rewind_keeps_the_blocks_that_still_hold_tokens() -> None:
    sequence = Sequence(KvPool(BLOCKS, TOKENS))
    fed(sequence, 10)
    first = list(sequence.blocks)
    sequence.rewind(5)
    assert sequence.blocks == first[:2]


def test_a_refused_reservation_holds_nothing_more() -> None:
    pool = KvPool(2, TOKENS)
    sequence = Sequence(pool)
    fed(sequence, 3)
    with pytest.raises(RequestFailed, match="QUEUE_FULL"):
        sequence.reserve(9)
    assert len(sequence.blocks) == 1


def test_rewinding_past_the_end_is_an_error() -> None:
    with pytest.raises(ValueError, match="cannot rewind"):
        Sequence(KvPool(2, TOKENS)).rewind(1)
