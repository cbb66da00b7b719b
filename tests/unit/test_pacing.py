"""Pacing loses and reorders nothing, lets the first and the last go at once, and keeps every bound."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from weir.engines.core import messages as m
from weir.engines.core.pacing import Pacer


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def _begun(clock: Clock, *numbers: int, steps: int = 4, delay_s: float = 0.1) -> Pacer:
    pacer = Pacer(clock)
    for number in numbers:
        pacer.begin(m.Submit(number, [1], 99, pace_steps=steps, pace_delay_s=delay_s))
    return pacer


def _output(number: int, token: int, finish: str = "") -> m.Output:
    return m.Output(number, [token], finish=finish)


def test_first_output_goes_at_once() -> None:
    assert _begun(Clock(), 1).take([_output(1, 0)]) == [_output(1, 0)]


def test_outputs_after_it_wait_for_their_number() -> None:
    pacer = _begun(Clock(), 1, steps=3)
    pacer.take([_output(1, 0)])
    assert pacer.take([_output(1, 1)]) == []
    assert pacer.take([_output(1, 2)]) == []
    assert pacer.take([_output(1, 3)]) == [_output(1, token) for token in (1, 2, 3)]


def test_outputs_wait_no_longer_than_their_delay() -> None:
    clock = Clock()
    pacer = _begun(clock, 1, delay_s=0.1)
    pacer.take([_output(1, 0)])
    pacer.take([_output(1, 1)])
    assert pacer.wait_s == 0.1
    clock.now = 0.2
    assert pacer.take([]) == [_output(1, 1)]
    assert pacer.wait_s is None


def test_last_output_takes_along_what_waits() -> None:
    pacer = _begun(Clock(), 1, 2)
    pacer.take([_output(1, 0), _output(2, 0)])
    pacer.take([_output(1, 1)])
    assert pacer.take([_output(2, 1, "stop")]) == [_output(1, 1), _output(2, 1, "stop")]


def test_generation_without_a_pace_is_never_held() -> None:
    pacer = Pacer(Clock())
    pacer.begin(m.Submit(1, [1], 9))
    assert [pacer.take([_output(1, token)]) for token in range(3)] == [[_output(1, t)] for t in range(3)]


def test_answers_to_calls_go_at_once() -> None:
    pacer = _begun(Clock(), 1)
    pacer.take([_output(1, 0)])
    pacer.take([_output(1, 1)])
    assert pacer.take([m.Extended(7, [])]) == [_output(1, 1), m.Extended(7, [])]


@given(
    st.lists(st.lists(st.integers(1, 3), max_size=3, unique=True), max_size=40),
    st.integers(1, 5),
    st.floats(0, 0.2),
    st.lists(st.floats(0, 0.1), min_size=40, max_size=40),
)
def test_any_steps_lose_and_reorder_nothing(
    rounds: Sequence[Sequence[int]], steps: int, delay_s: float, pauses: Sequence[float]
) -> None:
    clock = Clock()
    pacer = _begun(clock, 1, 2, 3, steps=steps, delay_s=delay_s)
    made: list[m.Event] = []
    sent: list[m.Event] = []
    for index, numbers in enumerate(rounds):
        clock.now += pauses[index]
        events = [_output(number, index) for number in numbers]
        made += events
        sent += pacer.take(events)
        waiting = len(made) - len(sent)
        assert waiting <= 3 * max(0, steps - 1)
        assert (pacer.wait_s is None) == (waiting == 0)
        assert pacer.wait_s is None or pacer.wait_s <= delay_s + 1e-9
    assert sent + pacer.release() == made
