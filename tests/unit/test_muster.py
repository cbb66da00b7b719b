"""Answers share a pass: who waits for whom, and that nobody waits forever."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack

from weir.verifier.speculation.muster import Muster

LONG = 1e9


def _muster(pass_s: float) -> Muster:
    muster = Muster()
    muster.took(pass_s)
    return muster


async def test_one_answer_never_waits() -> None:
    with _muster(LONG).place() as place:
        await place.ready(1)


async def test_answers_go_once_the_last_is_ready() -> None:
    muster = _muster(LONG)
    with ExitStack() as stack:
        first, second, last = (stack.enter_context(muster.place()) for _ in range(3))
        early = [asyncio.create_task(place.ready(1)) for place in (first, second)]
        await asyncio.sleep(0)
        assert not any(task.done() for task in early)
        await last.ready(1)
        await asyncio.gather(*early)


async def test_an_answer_that_ends_is_not_waited_for() -> None:
    muster = _muster(LONG)
    with muster.place() as place:
        with muster.place():
            waiting = asyncio.create_task(place.ready(1))
            await asyncio.sleep(0)
            assert not waiting.done()
        await waiting


async def test_a_cancelled_answer_is_not_counted_as_ready() -> None:
    muster = _muster(LONG)
    with muster.place() as first, muster.place() as second:
        gone = asyncio.create_task(first.ready(1))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.wait([gone])
        waiting = asyncio.create_task(second.ready(1))
        await asyncio.sleep(0)
        assert not waiting.done()
        await first.ready(1)
        await waiting


async def test_patience_ends_after_as_long_as_passes_take() -> None:
    muster = _muster(0.001)
    with muster.place() as place, muster.place():
        await place.ready(2)


async def test_who_kept_the_others_waiting_is_awaited_again_once_it_came() -> None:
    muster = _muster(0.001)
    with muster.place() as prompt, muster.place() as slow:
        await prompt.ready(1)
        muster.took(LONG)
        await prompt.ready(1)  # nobody else is awaited
        late = asyncio.create_task(slow.ready(1))
        await asyncio.sleep(0)
        assert not late.done()  # who came in time is awaited by who did not
        await prompt.ready(1)
        await late
        waiting = asyncio.create_task(prompt.ready(1))
        await asyncio.sleep(0)
        assert not waiting.done()
        await slow.ready(1)
        await waiting


async def test_who_waited_with_the_first_goes_with_it() -> None:
    muster = _muster(0.001)
    with muster.place() as first, muster.place() as second, muster.place():
        going = asyncio.create_task(first.ready(1))
        await asyncio.sleep(0)
        muster.took(LONG)
        await asyncio.gather(going, second.ready(1))
