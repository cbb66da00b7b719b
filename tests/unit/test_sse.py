"""Server-sent events: wherever the bytes are cut, the events are the same."""

from collections.abc import AsyncIterator, Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.common import sse
from weir.common.sse import SseEvent, SseOverflowError, sse_events


async def chunks(parts: Sequence[bytes]) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def parse(*parts: bytes) -> list[SseEvent]:
    return [event async for event in sse_events(chunks(parts))]


STREAM = (
    '\ufeffdata: first\n\n: a comment\r\nevent: delta\r\ndata: {"a": "é🙂"}\r\ndata:second line\r\n\r\n'
    "id: 7\rretry: 10\rdata:  kept space\r\revent: empty\n\ndata\n\ndata: [DONE]\n\ndata: broken off"
).encode()
EVENTS = [
    SseEvent("message", "first"),
    SseEvent("delta", '{"a": "é🙂"}\nsecond line'),
    SseEvent("message", " kept space"),
    SseEvent("message", ""),
    SseEvent("message", "[DONE]"),
]


@given(cuts=st.lists(st.integers(0, len(STREAM)), max_size=40))
async def test_events_do_not_depend_on_where_the_bytes_are_cut(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(STREAM)]
    assert await parse(*(STREAM[a:b] for a, b in pairwise(edges))) == EVENTS


async def test_bytes_one_by_one() -> None:
    assert await parse(*(STREAM[i : i + 1] for i in range(len(STREAM)))) == EVENTS


@given(data=st.lists(st.text(st.characters(blacklist_characters="\r\n", codec="utf-8")), min_size=1))
async def test_what_was_written_is_read(data: list[str]) -> None:
    body = "".join(f"data: {line}\n" for line in data) + "\n"
    assert await parse(body.encode()) == [SseEvent("message", "\n".join(data))]


async def test_event_without_its_empty_line_is_not_dispatched() -> None:
    assert await parse(b"data: half\n") == []


async def test_invalid_utf8_is_replaced() -> None:
    assert await parse(b"data: a\xffb\n\n") == [SseEvent("message", "a\ufffdb")]


@pytest.mark.parametrize("body", [b"data: " + b"x" * 200, b"data: xxxxxxxxxxxxxxxx\n" * 20])
async def test_endless_event_is_refused(body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MAX_EVENT_BYTES", 100)
    with pytest.raises(SseOverflowError):
        await parse(*(body[i : i + 10] for i in range(0, len(body), 10)))
