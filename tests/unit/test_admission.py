"""Admission is first come, first served, bounded, and loses no place."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.common.errors import ErrorCode, WeirError
from weir.slm_worker.admission import Admission


async def _hold(admission: Admission, entered: list[int], number: int, release: asyncio.Event) -> None:
    async with admission.place():
        entered.append(number)
        await release.wait()


async def _settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_free_place_is_taken_at_once() -> None:
    async with Admission(1, 0).place() as waited:
        assert waited < 1


async def test_past_the_bound_is_refused_with_a_delay() -> None:
    admission = Admission(1, 0)
    async with admission.place():
        with pytest.raises(WeirError) as caught:
            async with admission.place():
                pass
    assert caught.value.code is ErrorCode.QUEUE_FULL
    assert (caught.value.retry_after_s or 0) > 0


async def test_waiters_enter_in_order() -> None:
    admission, release, entered = Admission(1, 5), asyncio.Event(), list[int]()
    async with asyncio.TaskGroup() as tasks:
        for number in range(5):
            tasks.create_task(_hold(admission, entered, number, release))
        await _settle()
        assert (admission.running, admission.waiting) == (1, 4)
        release.set()
    assert entered == [0, 1, 2, 3, 4]
    assert (admission.running, admission.waiting) == (0, 0)


async def test_turn_of_a_cancelled_waiter_passes_on() -> None:
    admission, release, entered = Admission(1, 5), asyncio.Event(), list[int]()
    tasks = [asyncio.create_task(_hold(admission, entered, n, release)) for n in range(3)]
    await _settle()
    release.set()
    await asyncio.sleep(0)
    # The first has left or is leaving: the second's turn may already be given to it.
    tasks[1].cancel()
    await asyncio.wait(tasks)
    assert 2 in entered
    assert (admission.running, admission.waiting) == (0, 0)


@given(
    st.integers(1, 3), st.integers(0, 4), st.lists(st.tuples(st.booleans(), st.integers(0, 6)), max_size=30)
)
def test_no_sequence_of_events_leaks_or_overfills(
    places: int, waiting: int, events: list[tuple[bool, int]]
) -> None:
    async def run() -> None:
        admission = Admission(places, waiting)
        tasks: list[asyncio.Task[None]] = []

        async def visit() -> None:
            async with AsyncExitStack() as stack:
                await stack.enter_async_context(admission.place())
                await asyncio.Event().wait()

        for arrives, which in events:
            if arrives:
                tasks.append(asyncio.create_task(visit()))
            elif which < len(tasks):
                tasks[which].cancel()
            await _settle()
            assert admission.running <= places
            assert admission.waiting <= waiting
            assert admission.waiting == 0 or admission.running == places
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert (admission.running, admission.waiting) == (0, 0)

    asyncio.run(run())
