"""Verdicts settle drafted chunks by one rule; one that fits none is refused with the field that is wrong."""

from __future__ import annotations

import pytest

from weir.common.errors import ErrorCode, WeirError
from weir.engines.base import TokenInfo
from weir.slm_worker.draft_line import DraftedChunk, DraftLine, Settlement, Verdict

PROMPT = [1, 2]


def _line(*chunks: list[int], ahead: int = 4, limit: int = 100) -> DraftLine:
    line = DraftLine(PROMPT, frozenset({0}), limit, ahead)
    for ids in chunks:
        _send(line, ids)
    return line


def _send(line: DraftLine, ids: list[int]) -> int | None:
    chunk = DraftedChunk(len(line.ids), [TokenInfo(token) for token in ids])
    line.add(chunk)
    line.number(chunk)
    return chunk.number


def _settle(line: DraftLine, sequence: int, accepted: int, *correction: int) -> Settlement:
    return line.settle(Verdict(sequence, accepted, correction))


def test_whole_acceptance_leaves_later_chunks() -> None:
    line = _line([3, 4], [5, 6])
    settlement = _settle(line, 0, 2)
    assert (line.ids, line.open_chunks, settlement.voided) == ([1, 2, 3, 4, 5, 6], 1, 0)
    assert _send(line, [7]) == 2


def test_rejection_voids_later_chunks_and_numbers_past_them() -> None:
    line = _line([3, 4], [5, 6], [7, 8])
    settlement = _settle(line, 0, 1, 9)
    assert (line.ids, line.open_chunks) == ([1, 2, 3, 9], 0)
    assert (settlement.kept, settlement.voided) == (3, 2)
    assert _send(line, [5]) == 4


def test_correction_that_was_drafted_leaves_later_chunks() -> None:
    line = _line([3, 4], [5, 6], [7, 8])
    settlement = _settle(line, 0, 2, 5)
    assert (line.ids, settlement.kept, settlement.voided) == ([1, 2, 3, 4, 5, 6, 7, 8], 8, 0)
    assert _settle(line, 1, 2).length == 6
    assert _send(line, [9]) == 3


def test_correction_that_was_not_drafted_voids_later_chunks() -> None:
    line = _line([3, 4], [5, 6])
    assert _settle(line, 0, 2, 9).kept == 4
    assert line.ids == [1, 2, 3, 4, 9]
    assert _send(line, [6]) == 4


def test_chunk_within_a_correction_needs_no_verdict() -> None:
    line = _line([3, 4], [5], [6, 7])
    _settle(line, 0, 2, 5, 6)
    assert line.open_chunks == 1
    settlement = _settle(line, 2, 1, 9)
    assert (line.ids, settlement.accepted) == ([1, 2, 3, 4, 5, 6, 9], 1)


def test_verdict_on_a_chunk_within_a_correction_changes_nothing() -> None:
    line = _line([3, 4], [5], [6, 7])
    _settle(line, 0, 2, 5, 6)
    _settle(line, 1, 1)
    assert (line.ids, line.open_chunks) == ([1, 2, 3, 4, 5, 6, 7], 1)
    assert _settle(line, 2, 2).length == 7


def test_longer_correction_keeps_what_it_begins_with() -> None:
    line = _line([3, 4], [5, 6])
    settlement = _settle(line, 0, 2, 5, 6, 7, 8)
    assert (line.ids, settlement.kept, line.open_chunks) == ([1, 2, 3, 4, 5, 6, 7, 8], 6, 0)
    assert settlement.voided == 0
    assert _send(line, [9]) == 4


def test_numbers_pass_the_largest_bound_told() -> None:
    line = _line([3, 4], ahead=2)
    line.settle(Verdict(0, 2, (), chunks_ahead=6))
    for ids in ([5], [6], [7], [8], [9]):
        _send(line, ids)
    line.settle(Verdict(1, 1, (), chunks_ahead=1))
    assert line.chunks_ahead == 1
    _settle(line, 2, 0, 4)
    assert _send(line, [5]) == 2 + 6


def test_verdict_may_take_back_the_end() -> None:
    line = _line([3, 0])
    assert line.ended
    _settle(line, 0, 1, 5)
    assert not line.ended


def test_correction_may_reach_the_limit() -> None:
    line = _line([3], limit=5)
    _settle(line, 0, 1, 4, 5)
    assert line.full
    assert line.ended


@pytest.mark.parametrize(
    ("verdict", "field"),
    [
        (Verdict(7, 0), "ack.sequence"),
        (Verdict(1, 2), "ack.sequence"),
        (Verdict(0, 3), "ack.accepted"),
        (Verdict(0, 2**32 - 1), "ack.accepted"),
    ],
)
def test_verdict_that_fits_no_chunk_is_refused(verdict: Verdict, field: str) -> None:
    line = _line([3, 4], [5, 6])
    with pytest.raises(WeirError) as caught:
        line.settle(verdict)
    assert caught.value.code is ErrorCode.INVALID_REQUEST
    assert list(caught.value.fields) == [field]
    assert line.ids == [1, 2, 3, 4, 5, 6]


def test_second_verdict_on_a_chunk_is_refused() -> None:
    line = _line([3, 4], [5, 6])
    _settle(line, 0, 2)
    with pytest.raises(WeirError):
        _settle(line, 0, 2)


def test_verdict_on_a_void_chunk_is_refused() -> None:
    line = _line([3, 4], [5, 6])
    _settle(line, 0, 2, 9)
    with pytest.raises(WeirError):
        _settle(line, 1, 2)


def test_verdict_on_a_chunk_not_yet_sent_is_refused() -> None:
    line = _line()
    line.add(DraftedChunk(2, [TokenInfo(3)]))
    with pytest.raises(WeirError):
        _settle(line, 0, 1)


@pytest.mark.parametrize(("accepted", "correction"), [(0, (9,)), (1, (9,)), (0, ())])
def test_verdict_that_takes_back_a_correction_is_refused(accepted: int, correction: tuple[int, ...]) -> None:
    line = _line([3, 4], [5, 6, 7])
    _settle(line, 0, 2, 5, 6)
    with pytest.raises(WeirError) as caught:
        line.settle(Verdict(1, accepted, correction))
    assert list(caught.value.fields) == ["ack.correction"]
