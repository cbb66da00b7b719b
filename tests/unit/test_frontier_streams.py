"""The providers' recorded event streams give the same answer wherever the bytes are cut."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable

import pytest

from tests.services.provider_calls import access
from tests.services.provider_doubles import ANSWER, RECORDED
from weir.common.sse import SseEvent, SseParser, sse_events
from weir.engines.base import FinishReason
from weir.frontier_proxy.domain import TokenCounts
from weir.frontier_proxy.providers.answers import Reader, read
from weir.frontier_proxy.providers.anthropic import MessageReader
from weir.frontier_proxy.providers.base import Delta, Finished, ProviderEvent
from weir.frontier_proxy.providers.gemini import ContentReader
from weir.frontier_proxy.providers.openai import ChatReader
from weir.frontier_proxy.providers.openai_responses import ResponseReader


async def body(chunks: Iterable[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def batches(chunks: Iterable[bytes]) -> AsyncIterator[list[SseEvent]]:
    parser = SseParser()
    for chunk in chunks:
        yield parser.feed(chunk)


async def events_of(chunks: Iterable[bytes]) -> list[SseEvent]:
    return [event async for event in sse_events(body(chunks))]


def reader(name: str) -> Reader:
    where = access(name, "")
    match name:
        case "anthropic":
            return MessageReader(where)
        case "gemini":
            return ContentReader(where)
        case "openai_responses":
            return ResponseReader(where, constrained=False)
    return ChatReader(where, constrained=False)


async def answer_of(name: str, chunks: Iterable[bytes]) -> list[ProviderEvent]:
    return [event async for event in read(batches(chunks), reader(name))]


@pytest.mark.parametrize(
    ("name", "count"), [("openai", 14), ("openai_responses", 14), ("anthropic", 10), ("gemini", 4)]
)
async def test_a_cut_at_any_byte_changes_nothing(name: str, count: int) -> None:
    stream = RECORDED[name]
    whole = await events_of([stream])
    assert len(whole) == count
    for cut in range(len(stream) + 1):
        assert await events_of([stream[:cut], stream[cut:]]) == whole, f"cut at byte {cut}"


@pytest.mark.parametrize("name", RECORDED)
async def test_single_bytes_give_the_same_answer(name: str) -> None:
    stream = RECORDED[name]
    single = await answer_of(name, [stream[at : at + 1] for at in range(len(stream))])
    assert single == await answer_of(name, [stream])
    assert "".join(event.text for event in single if isinstance(event, Delta)) == ANSWER


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("openai", TokenCounts(25, 14, cached=8)),
        ("openai_responses", TokenCounts(25, 14, cached=8, cache_write=5, reasoning=4)),
        ("anthropic", TokenCounts(25, 14, cached=8)),
        ("gemini", TokenCounts(25, 14, cached=8, reasoning=4)),
    ],
)
async def test_the_last_event_has_the_bill(name: str, counts: TokenCounts) -> None:
    *_, last = await answer_of(name, [RECORDED[name]])
    assert last == Finished(FinishReason.STOP, counts)
