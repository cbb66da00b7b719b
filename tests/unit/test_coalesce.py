"""Coalescing keeps order and content, sends the first at once, and passes failures and ends on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.common.coalesce import coalesce


async def _items(*values: str) -> AsyncGenerator[str, None]:
    for value in values:
        yield value


@given(st.lists(st.text(max_size=3), max_size=40), st.integers(1, 9))
def test_any_batching_keeps_order_and_content(values: list[str], size: int) -> None:
    async def run() -> list[str]:
        return [item async for item in coalesce(_items(*values), "".join, max_items=size, max_delay_s=5)]

    merged = asyncio.run(run())
    assert "".join(merged) == "".join(values)
    assert len(merged) <= max(1, len(values))


async def test_first_item_comes_before_the_second_exists() -> None:
    release = asyncio.Event()

    async def source() -> AsyncGenerator[str, None]:
        yield "a"
        await release.wait()
        yield "b"

    stream = coalesce(source(), "".join, max_delay_s=5)
    assert await anext(stream) == "a"
    release.set()
    assert await anext(stream) == "b"


async def test_items_after_the_first_share_messages() -> None:
    merged = [item async for item in coalesce(_items(*"abcdefghi"), "".join, max_items=4, max_delay_s=5)]
    assert len(merged) <= 4


async def test_failure_comes_after_the_items_before_it() -> None:
    async def source() -> AsyncGenerator[str, None]:
        yield "a"
        yield "b"
        raise ValueError("broken")

    seen: list[str] = []
    with pytest.raises(ValueError, match="broken"):
        async for item in coalesce(source(), "".join):
            seen.append(item)  # noqa: PERF401 - what came before the failure is what is asserted
    assert "".join(seen) == "ab"


async def test_closing_closes_the_source() -> None:
    closed = asyncio.Event()

    async def source() -> AsyncGenerator[str, None]:
        try:
            yield "a"
            await asyncio.Event().wait()
        finally:
            closed.set()

    stream = coalesce(source(), "".join)
    assert await anext(stream) == "a"
    await stream.aclose()
    assert closed.is_set()


async def test_slow_consumer_stops_the_producer() -> None:
    made = 0

    async def source() -> AsyncGenerator[str, None]:
        nonlocal made
        for _ in range(1000):
            made += 1
            yield "x"
            await asyncio.sleep(0)

    stream = coalesce(source(), "".join, max_items=4)
    await anext(stream)
    for _ in range(50):
        await asyncio.sleep(0)
    assert made <= 10
    await stream.aclose()
