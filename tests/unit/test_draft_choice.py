"""Copying is chosen where it pays, and comes back when it would have been right."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.slm_worker.choice import AcceptedShare, Choice, expected_tokens


def _choice(step_s: float = 0.01, wait_s: float = 0.05) -> Choice:
    choice = Choice()
    choice.step_s.add(step_s)
    choice.wait_s.add(wait_s)
    return choice


def _misses(choice: Choice, count: int) -> None:
    for _ in range(count):
        choice.lookup_compared(2, [1, 2, 3, 4], [9])


def test_copying_comes_first() -> None:
    assert Choice().lookup_pays(2, 4, 4, ahead=False)


def test_rejections_bring_the_model_back() -> None:
    choice = _choice()
    _misses(choice, 3)
    assert not choice.lookup_pays(2, 4, 4, ahead=False)


def test_proposals_that_would_have_stood_bring_copying_back() -> None:
    choice = _choice()
    _misses(choice, 5)
    for _ in range(8):
        choice.lookup_compared(2, [1, 2, 3, 4], [1, 2, 3, 4, 5])
    assert choice.lookup_pays(2, 4, 4, ahead=False)


def test_each_length_of_match_has_its_own_record() -> None:
    choice = _choice()
    _misses(choice, 3)
    assert choice.lookup_pays(4, 4, 4, ahead=False)


def test_dear_draft_step_is_worth_a_worse_copy() -> None:
    choices = [_choice(step_s) for step_s in (0.001, 0.1)]
    for choice in choices:
        choice.model_judged(4, 4)
        choice.lookup_compared(2, [1, 2, 3, 4], [1, 9])
    assert [choice.lookup_pays(2, 4, 4, ahead=False) for choice in choices] == [False, True]


def test_drafting_ahead_hides_the_draft_step() -> None:
    choice = _choice(0.01, 0.05)
    choice.model_judged(4, 4)
    choice.lookup_compared(2, [1, 2, 3, 4], [1, 2, 9])
    assert choice.lookup_pays(2, 4, 4, ahead=False)
    assert not choice.lookup_pays(2, 4, 4, ahead=True)


def test_new_stream_starts_from_what_others_saw() -> None:
    worker = Choice()
    earlier = Choice(worker)
    earlier.step_s.add(0.01)
    earlier.wait_s.add(0.05)
    _misses(earlier, 20)
    assert not Choice(worker).lookup_pays(2, 4, 4, ahead=False)
    assert Choice(worker).lookup_pays(4, 4, 4, ahead=False)


def test_one_whole_copy_that_would_have_stood_outweighs_what_others_saw() -> None:
    worker = Choice()
    _misses(worker, 20)
    stream = Choice(worker)
    stream.step_s.add(0.01)
    stream.wait_s.add(0.05)
    stream.lookup_compared(2, [1, 2, 3, 4], [1, 2, 3, 4, 5])
    assert stream.lookup_pays(2, 4, 4, ahead=False)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_expected_tokens_are_the_sum_of_the_chances(share: float) -> None:
    assert expected_tokens(share, 5) == pytest.approx(sum(share**power for power in range(6)))


@given(st.lists(st.tuples(st.integers(0, 64), st.booleans()), max_size=400))
def test_share_stays_a_share(chunks: list[tuple[int, bool]]) -> None:
    share = AcceptedShare(0.7, 0.9)
    for stood, missed in chunks:
        share.add(stood, missed=missed)
    assert 0.0 < share.value < 1.0


def test_share_of_ever_accepted_drafts_stays_below_one() -> None:
    share = AcceptedShare(0.7, 0.9)
    for _ in range(2000):
        share.add(64, missed=False)
    assert 0.99 < share.value < 1.0
