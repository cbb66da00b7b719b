"""Answers share a pass: who waits for whom, and that nobody waits forever."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack

from weir.verifier.speculation.muster import Muster


async def test_one_answer_never_waits() -> None:
    muster = Muster()
    muster.took(1e9)
    with muster.present():
        await muster.ready()


async def test_answers_go_once_the_last_is_ready() -> None:
    muster = Muster()
    muster.took(1e9)
    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(muster.present())
        early = [asyncio.create_task(muster.ready()) for _ in range(2)]
        await asyncio.sleep(0)
        assert not any(task.done() for task in early)
        await muster.ready()
        await asyncio.gather(*early)


async def test_an_answer_that_ends_is_not_waited_for() -> None:
    muster = Muster()
    muster.took(1e9)
    with muster.present():
        with muster.present():
            waiting = asyncio.create_task(muster.ready())
            await asyncio.sleep(0)
            assert not waiting.done()
        await waiting


async def test_a_cancelled_answer_is_not_counted_as_ready() -> None:
    muster = Muster()
    muster.took(1e9)
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(muster.present())
        gone = asyncio.create_task(muster.ready())
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.wait([gone])
        alone = asyncio.create_task(muster.ready())
        await asyncio.sleep(0)
        assert not alone.done()
        await muster.ready()
        await alone


async def test_patience_ends_after_as_long_as_a_pass_takes() -> None:
    muster = Muster()
    muster.took(0.001)
    with muster.present(), muster.present():
        await muster.ready()


async def test_who_waited_with_the_first_goes_with_it() -> None:
    muster = Muster()
    muster.took(0.001)
    with muster.present(), muster.present(), muster.present():
        first = asyncio.create_task(muster.ready())
        await asyncio.sleep(0)
        muster.took(1e9)
        second = asyncio.create_task(muster.ready())
        await asyncio.gather(first, second)
