"""From a provider's event stream to the events of one answer: what is the same for every provider."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Sequence
from contextlib import aclosing
from typing import Any

from weir.common.errors import WeirError
from weir.common.sse import SseEvent
from weir.engines.base import FinishReason
from weir.frontier_proxy.domain import TokenCounts
from weir.frontier_proxy.providers import failures
from weir.frontier_proxy.providers.base import Access, Delta, Finished, ProviderEvent
from weir.frontier_proxy.providers.http import HttpCall, HttpClient

DONE = "[DONE]"


class Reader(ABC):
    """Reads the events of one answer.

    Attributes:
        counts: the tokens told so far.
        end: how the answer ended, once the provider said so; an error where it is none to be passed on.
        over: whether nothing more is to come.
    """

    def __init__(self, access: Access) -> None:
        self.access = access
        self.counts: TokenCounts | None = None
        self.end: FinishReason | WeirError | None = None
        self.over = False

    def deltas(self, events: Iterable[SseEvent]) -> Iterator[Delta]:
        """Read events until the answer is over.

        Raises:
            WeirError: what the provider tells in the stream; PROVIDER_FAILED for an event of another shape.
        """
        for event in events:
            if event.data == DONE:
                self.over = True
            elif delta := self._delta(event.data):
                yield delta
            if self.over:
                return

    def _delta(self, data: str) -> Delta | None:
        content = failures.parse(self.access, data)
        try:
            return self._take(content)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise failures.malformed(self.access, type(error).__name__) from None

    @abstractmethod
    def _take(self, content: dict[str, Any]) -> Delta | None: ...


async def answer(http: HttpClient, call: HttpCall, reader: Reader) -> AsyncGenerator[ProviderEvent, None]:
    """Send the request and yield its answer, see ``Provider.stream``."""
    contents = await http.post(call)
    try:
        async with aclosing(read(contents, reader)) as events:
            async for event in events:
                yield event
    except BaseException:
        contents.close()
        raise
    http.release(contents)


async def read(
    batches: AsyncIterator[Sequence[SseEvent]], reader: Reader
) -> AsyncGenerator[ProviderEvent, None]:
    """Yield an accepted request's answer; an error that ends it comes behind the counts of its bill."""
    yield Delta()
    texts = False
    while not reader.over:
        try:
            events = await anext(batches, None)
        except WeirError:
            if reader.end is None:
                raise
            # The whole answer came; only its usage did not.
            break
        if events is None:
            break
        for delta in reader.deltas(events):
            texts = texts or bool(delta.text)
            yield delta
    counts = _believed(reader.counts, texts=texts)
    if isinstance(reader.end, FinishReason):
        yield Finished(reader.end, counts)
        return
    if counts and reader.end:
        yield Delta(counts=counts, final=True)
    raise reader.end or failures.broke_off(reader.access)


def _believed(counts: TokenCounts | None, *, texts: bool) -> TokenCounts | None:
    """No text has zero tokens: then the provider did not count."""
    return None if counts and texts and not counts.completion else counts


def text_in(value: object) -> str:
    """Return text that may be absent. Raises TypeError for anything else in its place."""
    if value is None or isinstance(value, str):
        return value or ""
    raise TypeError(type(value).__name__)


def delta_of(text: str, unseen: str = "", counts: TokenCounts | None = None) -> Delta | None:
    """Return what is new, ``None`` where nothing is."""
    return Delta(text, counts, unseen=unseen) if text or unseen or counts else None
