"""The providers' recorded event streams give the same events wherever the bytes are cut."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable

import pytest

from tests.services.provider_doubles import RECORDED
from weir.common.sse import SseEvent, sse_events


async def events_of(chunks: Iterable[bytes]) -> list[SseEvent]:
    async def body() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    return [event async for event in sse_events(body())]


@pytest.mark.parametrize(("name", "count"), [("openai", 14), ("anthropic", 10), ("gemini", 4)])
async def test_a_cut_at_any_byte_changes_nothing(name: str, count: int) -> None:
    stream = RECORDED[name]
    whole = await events_of([stream])
    assert len(whole) == count
    for cut in range(len(stream) + 1):
        assert await events_of([stream[:cut], stream[cut:]]) == whole, f"cut at byte {cut}"


@pytest.mark.parametrize("name", RECORDED)
async def test_single_bytes_change_nothing(name: str) -> None:
    stream = RECORDED[name]
    single = [stream[at : at + 1] for at in range(len(stream))]
    assert await events_of(single) == await events_of([stream])
