"""When a circuit opens, how it is probed, and what it never does whatever the calls do."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from weir.common.config.frontier import CircuitBreaker
from weir.common.errors import ErrorCode
from weir.frontier_proxy.breaker import Breaker, Cause, CircuitState, Permit
from weir.frontier_proxy.window import SLICES, SlidingWindow, Tally

FAILED = ErrorCode.PROVIDER_FAILED
PART = st.integers(0, 3)
# Eighths, so that sums are exact.
SECONDS = st.integers(0, 240).map(lambda eighths: eighths / 8)
ENDS = ("succeeded", "failed", "rest", "released")


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Circuit:
    """A breaker with its clock and with what its listener heard."""

    def __init__(self, **config: Any) -> None:
        self.clock = Clock()
        self.heard: list[Cause | None] = []
        self.breaker = Breaker(
            CircuitBreaker(**config), self.clock, listener=lambda cause, seconds: self.heard.append(cause)
        )

    def state(self) -> CircuitState:
        return self.breaker.state

    def call(self) -> Permit:
        permit = self.breaker.admit()
        assert permit
        return permit

    def fail(self, times: int = 1) -> None:
        for _ in range(times):
            self.call().failed(FAILED)

    def succeed(self, times: int = 1, *, first_text: float = 0.1) -> None:
        for _ in range(times):
            permit = self.call()
            permit.first_text(first_text)
            permit.succeeded()

    def half_open(self) -> None:
        self.clock.now += self.breaker.open_for()


def tripped(**config: Any) -> Circuit:
    """A circuit that two failures have opened for ten seconds."""
    circuit = Circuit(**{"consecutive_failures": 2, "open_s": 10, **config})
    circuit.fail(2)
    return circuit


def end(permit: Permit, how: str, wait: float) -> None:
    match how:
        case "succeeded":
            permit.succeeded()
        case "failed":
            permit.failed(FAILED)
        case "rest":
            permit.rest(wait)
        case _:
            permit.released()


def test_failures_in_a_row_open_it_and_a_success_between_them_does_not() -> None:
    circuit = Circuit(consecutive_failures=3, open_s=15)
    circuit.fail(2)
    circuit.succeed()
    circuit.fail(2)
    assert circuit.state() is CircuitState.CLOSED
    circuit.fail()
    assert circuit.state() is CircuitState.OPEN
    assert circuit.breaker.open_for() == 15
    assert circuit.breaker.admit() is None
    assert circuit.heard == [Cause.CONSECUTIVE_FAILURES]


def test_a_share_of_failures_opens_it_once_enough_calls_are_known() -> None:
    circuit = Circuit(min_calls=10, failure_share=0.5, consecutive_failures=100)
    for _ in range(4):
        circuit.fail()
        circuit.succeed()
    circuit.fail()
    assert circuit.state() is CircuitState.CLOSED
    circuit.fail()
    assert circuit.heard == [Cause.FAILURE_SHARE]


def test_failures_that_have_left_the_window_count_no_longer() -> None:
    circuit = Circuit(window_s=30, min_calls=4, failure_share=0.5, consecutive_failures=100)
    circuit.fail(3)
    circuit.clock.now += 31
    circuit.succeed(3)
    circuit.fail()
    assert circuit.state() is CircuitState.CLOSED


def test_slow_first_texts_open_it_before_their_streams_have_ended() -> None:
    circuit = Circuit(min_calls=5, slow_share=0.8, slow_first_token_s=2)
    calls = [circuit.call() for _ in range(5)]
    calls[0].first_text(1.9)
    for call in calls[1:4]:
        call.first_text(2.1)
    assert circuit.state() is CircuitState.CLOSED
    calls[4].first_text(2.1)
    assert circuit.heard == [Cause.SLOW_SHARE]


def test_a_fast_first_text_opens_nothing_when_older_fast_ones_leave_the_window() -> None:
    circuit = Circuit(window_s=10, min_calls=4, slow_share=0.8, slow_first_token_s=2)
    circuit.succeed(3)
    circuit.clock.now += 5
    for _ in range(4):
        circuit.call().first_text(3)
    circuit.clock.now += 6
    circuit.call().first_text(0.1)
    assert circuit.state() is CircuitState.CLOSED
    circuit.call().first_text(3)
    assert circuit.heard == [Cause.SLOW_SHARE]


def test_a_wait_that_the_client_gave_up_is_as_slow_as_it_was_long() -> None:
    circuit = Circuit(min_calls=3, slow_share=1, slow_first_token_s=2)
    for waited in (2.5, 2.5, 2.5):
        call = circuit.call()
        circuit.clock.now += waited
        call.released()
    assert circuit.heard == [Cause.SLOW_SHARE]


def test_a_short_wait_that_was_given_up_says_nothing() -> None:
    circuit = Circuit(min_calls=1, slow_share=1, slow_first_token_s=2, consecutive_failures=1)
    call = circuit.call()
    circuit.clock.now += 1.5
    call.released()
    assert circuit.state() is CircuitState.CLOSED


def test_slowness_opens_nothing_where_no_limit_is_set() -> None:
    circuit = Circuit(min_calls=1, slow_first_token_s=None)
    circuit.succeed(5, first_text=600)
    assert circuit.state() is CircuitState.CLOSED


def test_half_open_one_call_at_a_time_waits_for_its_first_text() -> None:
    circuit = tripped()
    circuit.half_open()
    assert circuit.state() is CircuitState.HALF_OPEN
    probe = circuit.call()
    assert circuit.breaker.admit() is None
    probe.first_text(0.1)
    assert circuit.breaker.admit()


def test_good_probes_close_it_and_the_old_failures_are_forgotten() -> None:
    circuit = tripped(probes=2)
    circuit.half_open()
    circuit.succeed()
    assert circuit.state() is CircuitState.HALF_OPEN
    circuit.succeed()
    assert circuit.state() is CircuitState.CLOSED
    circuit.fail()
    assert circuit.heard == [Cause.CONSECUTIVE_FAILURES, None]


def test_a_share_that_opened_it_is_forgotten_once_it_closes() -> None:
    circuit = Circuit(
        window_s=1000, min_calls=4, failure_share=0.5, consecutive_failures=100, open_s=10, probes=1
    )
    circuit.fail(4)
    circuit.half_open()
    circuit.succeed()
    circuit.fail()
    assert circuit.heard == [Cause.FAILURE_SHARE, None]


def test_good_probes_before_a_failed_one_count_no_longer() -> None:
    circuit = tripped(probes=2)
    circuit.half_open()
    circuit.succeed()
    circuit.fail()
    circuit.half_open()
    circuit.succeed()
    assert circuit.state() is CircuitState.HALF_OPEN


def test_a_first_text_counts_once_and_not_behind_the_end() -> None:
    circuit = Circuit(min_calls=2, slow_share=1, slow_first_token_s=2)
    call, ended = circuit.call(), circuit.call()
    call.first_text(3)
    call.first_text(3)
    ended.succeeded()
    ended.first_text(3)
    assert circuit.state() is CircuitState.CLOSED


def test_a_slow_text_of_before_it_opened_is_no_failed_probe() -> None:
    circuit = Circuit(consecutive_failures=2, open_s=10, slow_first_token_s=2)
    old = circuit.call()
    circuit.fail(2)
    circuit.half_open()
    old.first_text(12)
    assert circuit.state() is CircuitState.HALF_OPEN


def test_open_times_double_with_failed_probes_up_to_the_longest_and_begin_anew_once_closed() -> None:
    circuit = tripped(open_s=10, longest_open_s=35, probes=1)
    times = [circuit.breaker.open_for()]
    for _ in range(3):
        circuit.half_open()
        circuit.fail()
        times.append(circuit.breaker.open_for())
    assert times == [10, 20, 35, 35]
    circuit.half_open()
    circuit.succeed()
    circuit.fail(2)
    assert circuit.breaker.open_for() == 10


def test_a_probe_that_breaks_off_behind_its_first_text_opens_it_again() -> None:
    circuit = tripped()
    circuit.half_open()
    probe = circuit.call()
    probe.first_text(0.1)
    probe.failed(ErrorCode.STREAM_BROKEN)
    assert circuit.state() is CircuitState.OPEN
    assert circuit.breaker.reason is ErrorCode.STREAM_BROKEN


def test_a_slow_probe_opens_it_again() -> None:
    circuit = tripped(slow_first_token_s=2)
    circuit.half_open()
    circuit.call().first_text(3)
    assert circuit.heard[-1] is Cause.PROBE_SLOW


def test_a_probe_that_was_cancelled_lets_the_next_call_probe() -> None:
    circuit = tripped()
    circuit.half_open()
    circuit.call().released()
    assert circuit.state() is CircuitState.HALF_OPEN
    circuit.call()


def test_what_began_before_it_opened_neither_closes_it_nor_keeps_it_open() -> None:
    circuit = Circuit(consecutive_failures=2, open_s=10, probes=1)
    good, bad, cancelled = circuit.call(), circuit.call(), circuit.call()
    circuit.fail(2)
    circuit.half_open()
    probe = circuit.call()
    bad.failed(FAILED)
    good.first_text(0.1)
    good.succeeded()
    cancelled.released()
    assert circuit.state() is CircuitState.HALF_OPEN
    assert circuit.breaker.admit() is None
    probe.succeeded()
    assert circuit.state() is CircuitState.CLOSED


def test_a_named_wait_is_kept_and_is_no_mark_against_the_provider() -> None:
    circuit = Circuit(consecutive_failures=1)
    circuit.call().rest(7)
    assert circuit.breaker.open_for() == 7
    assert circuit.breaker.reason is ErrorCode.RATE_LIMITED
    circuit.clock.now += 7
    assert circuit.state() is CircuitState.CLOSED
    assert circuit.heard == [Cause.RATE_LIMIT]


def test_a_named_wait_is_no_longer_than_the_longest_open_time() -> None:
    circuit = Circuit(longest_open_s=120)
    circuit.call().rest(86_400)
    assert circuit.breaker.open_for() == 120


def test_the_longest_of_several_named_waits_holds_and_is_told_once() -> None:
    circuit = Circuit()
    first, second = circuit.call(), circuit.call()
    first.rest(9)
    second.rest(3)
    assert circuit.breaker.open_for() == 9
    assert circuit.heard == [Cause.RATE_LIMIT]


def test_a_probe_whose_rate_is_limited_is_followed_by_another() -> None:
    circuit = tripped(open_s=10)
    circuit.half_open()
    circuit.call().rest(3)
    assert circuit.breaker.open_for() == 3
    circuit.half_open()
    assert circuit.state() is CircuitState.HALF_OPEN
    circuit.call()


@pytest.mark.parametrize("last", ENDS)
def test_a_permit_ends_once(last: str) -> None:
    circuit = Circuit(consecutive_failures=1)
    call = circuit.call()
    call.succeeded()
    end(call, last, wait=5)
    assert circuit.state() is CircuitState.CLOSED


@given(st.lists(st.tuples(st.floats(0, 7), PART, PART, PART, PART), max_size=60))
def test_the_window_sums_what_its_slices_hold(steps: list[tuple[float, int, int, int, int]]) -> None:
    clock, seconds = Clock(), 5.0
    window = SlidingWindow(seconds, clock)
    happened: list[tuple[int, Tally]] = []
    for passed, *parts in steps:
        clock.now += passed
        present = int(clock.now // (seconds / SLICES))
        happened.append((present, Tally(*parts)))
        expected = Tally()
        for number, tally in happened:
            if number > present - SLICES:
                expected.add(tally)
        assert window.count(Tally(*parts)) == expected


class Calls(RuleBasedStateMachine):
    """Calls begin, end and are given up in any order, while any time passes."""

    def __init__(self) -> None:
        super().__init__()
        self.circuit = Circuit(
            window_s=10,
            min_calls=4,
            consecutive_failures=3,
            slow_first_token_s=2,
            open_s=5,
            longest_open_s=20,
        )
        self.under_way: deque[Permit] = deque()

    @rule(seconds=SECONDS)
    def time_passes(self, seconds: float) -> None:
        self.circuit.clock.now += seconds

    @rule()
    def begin(self) -> None:
        if permit := self.circuit.breaker.admit():
            self.under_way.append(permit)

    @precondition(lambda self: self.under_way)
    @rule(seconds=st.floats(0, 4), turns=st.integers(0, 5))
    def first_text(self, seconds: float, turns: int) -> None:
        self.under_way.rotate(turns)
        self.under_way[0].first_text(seconds)

    @precondition(lambda self: self.under_way)
    @rule(how=st.sampled_from(ENDS), wait=SECONDS)
    def end(self, how: str, wait: float) -> None:
        end(self.under_way.popleft(), how, wait)

    @invariant()
    def an_open_circuit_admits_nothing_and_opens_again_in_time(self) -> None:
        circuit, breaker = self.circuit, self.circuit.breaker
        assert 0 <= breaker.open_for() <= 20
        assert (circuit.state() is CircuitState.OPEN) == (breaker.open_for() > 0)
        if breaker.open_for():
            assert breaker.admit() is None

    def teardown(self) -> None:
        """Once every call has ended, time alone makes the model be asked again, and successes close it."""
        while self.under_way:
            self.under_way.pop().released()
        self.circuit.half_open()
        self.circuit.succeed(2)
        assert self.circuit.state() is CircuitState.CLOSED


TestCalls = Calls.TestCase
TestCalls.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
