"""The running quantile of the times to the first text."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from weir.frontier_proxy.latency import FirstTextTimes

SECONDS = st.floats(0, 100)


def test_too_few_times_have_no_quantile() -> None:
    times = FirstTextTimes(min_samples=3)
    times.add(1)
    times.add(2)
    assert times.quantile(0.5) is None
    times.add(3)
    assert times.quantile(0.5) == 2


def test_old_times_are_forgotten() -> None:
    times = FirstTextTimes(min_samples=1, size=4)
    for seconds in (9, 9, 9, 9, 1, 1, 1, 1):
        times.add(seconds)
    assert times.quantile(0.99) == 1


def test_as_many_times_are_kept_as_a_quantile_needs() -> None:
    times = FirstTextTimes(min_samples=10, size=4)
    for seconds in range(10):
        times.add(seconds)
    assert times.quantile(0.95) == 9


@given(st.lists(SECONDS, min_size=1, max_size=80), st.floats(0.01, 0.99))
def test_the_quantile_is_the_nearest_rank_of_the_recent_times(seconds: list[float], q: float) -> None:
    times = FirstTextTimes(min_samples=1, size=16)
    for one in seconds:
        times.add(one)
    recent = sorted(seconds[-16:])
    found = times.quantile(q)
    assert found in recent
    assert sum(one <= found for one in recent) >= q * len(recent)
    assert found == recent[math.ceil(q * len(recent)) - 1]
