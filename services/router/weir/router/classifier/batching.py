"""Dynamic batching: what waits together is judged together, and nothing waits on purpose."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Thread

from weir.router.classifier.base import Assessment, PromptClassifier
from weir.router.classifier.pace import Pace

MAX_WAITING = 256
# Classifiers read the two ends of longer texts, so that all of them take about as long.
_MAX_SIZE = 2_048
# What a text costs beside its bytes, in bytes.
_LEAST_SIZE = 96
# A batch's bytes, padding included: past it batching saves nothing and only makes others wait.
_MAX_BATCH_SIZE = 8_192
# Padded over real bytes that a batch may have.
_MAX_STRETCH = 1.25
_CLOSE_TIMEOUT_S = 5.0


class BusyError(Exception):
    """The classifier has more waiting than it may."""


@dataclass(slots=True, eq=False)
class _Waiter:
    text: str
    size: int
    future: asyncio.Future[Assessment]


def _size(text: str) -> int:
    """Estimate what a text costs; bytes follow the tokens better than characters do outside of ASCII."""
    head = text if len(text) <= _MAX_SIZE else text[:_MAX_SIZE]
    size = len(head) if head.isascii() else len(head.encode(errors="replace"))
    return _LEAST_SIZE + min(size, _MAX_SIZE)


def batch_of(sizes: Sequence[int], max_batch: int, most: float = math.inf) -> list[int]:
    """Choose who is judged with the first, who has waited longest: those nearest in length.

    Returns indices into ``sizes``, 0 always among them, so that nobody starves; at most ``max_batch`` of them
    and ``most`` bytes, with little padding.
    """
    most = min(most, _MAX_BATCH_SIZE)
    chosen, longest, real = list[int](), 0, 0
    for index in sorted(range(len(sizes)), key=lambda i: abs(sizes[i] - sizes[0]))[:max_batch]:
        longest, real = max(longest, sizes[index]), real + sizes[index]
        padded = longest * (len(chosen) + 1)
        if chosen and padded > min(most, _MAX_STRETCH * real):
            break
        chosen.append(index)
    return chosen


class Batcher:
    """One classifier and the thread that runs it. All methods belong to the event loop that started it.

    A lone text is judged at once. While a batch runs, others gather; the next one takes the oldest of them
    and those of about its length. Who was cancelled while waiting is left out.

    Args:
        classifier: to run.
        max_batch: texts judged together.
        limit_s: how long anybody waits for an assessment; it bounds batches and queue (see ``Pace``).
        max_waiting: texts that may wait, whatever their length.
    """

    def __init__(
        self,
        classifier: PromptClassifier,
        *,
        max_batch: int,
        limit_s: float = math.inf,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        self.classifier = classifier
        self._max_batch, self._max_waiting, self._limit_s = max_batch, max_waiting, limit_s
        self._pace = Pace(limit_s)
        # Bytes since the start: the loop alone counts the one, the thread the other.
        self._handed_in = self._taken = 0
        self._arrived: SimpleQueue[_Waiter | None] = SimpleQueue()
        # The thread's own, oldest first.
        self._waiting: list[_Waiter] = []
        self._running: list[_Waiter] = []
        self._closing = False
        self._running_since: float | None = None
        self._loop = asyncio.get_running_loop()
        self._thread = Thread(target=self._work, name="weir-classifier", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many wait for their batch, the cancelled ones that were not yet left out among them."""
        return self._arrived.qsize() + len(self._waiting)

    def submit(self, text: str) -> asyncio.Future[Assessment]:
        """Hand a text in; cancel the future where the assessment is no longer wanted.

        Raises:
            BusyError: at once, where those before it would take too long or the present batch hangs.
        """
        if self._closing or self._full() or self._stuck():
            raise BusyError
        waiter = _Waiter(text, _size(text), self._loop.create_future())
        self._handed_in += waiter.size
        self._arrived.put(waiter)
        return waiter.future

    def _full(self) -> bool:
        ahead = self._handed_in - self._taken
        return self.waiting >= self._max_waiting or ahead > self._pace.queue_size

    def _stuck(self) -> bool:
        since = self._running_since
        return since is not None and time.monotonic() - since > self._limit_s

    async def aclose(self) -> None:
        """Finish what was handed in and end the thread; idempotent.

        A classifier that hangs is left behind after five seconds, and who waits for it is cancelled.
        """
        if not self._closing:
            self._closing = True
            self._arrived.put(None)
        await asyncio.to_thread(self._thread.join, _CLOSE_TIMEOUT_S)
        for waiter in (*self._running, *self._waiting):
            waiter.future.cancel()

    def _work(self) -> None:
        open_ = True
        while open_ or self._waiting:
            open_ = self._gather(block=open_ and not self._waiting) and open_
            self._leave_out()
            if self._waiting:
                self._run(self._next_batch())

    def _gather(self, *, block: bool) -> bool:
        """Take over what has arrived; whether more may come."""
        with suppress(Empty):
            while True:
                waiter = self._arrived.get(block)
                if waiter is None:
                    return False
                self._waiting.append(waiter)
                block = False
        return True

    def _leave_out(self) -> None:
        """Drop who no longer waits."""
        before = sum(waiter.size for waiter in self._waiting)
        self._waiting = [waiter for waiter in self._waiting if not waiter.future.done()]
        self._taken += before - sum(waiter.size for waiter in self._waiting)

    def _next_batch(self) -> list[_Waiter]:
        sizes = [waiter.size for waiter in self._waiting]
        chosen = batch_of(sizes, self._max_batch, self._pace.batch_size)
        batch = [self._waiting[index] for index in chosen]
        self._taken += sum(waiter.size for waiter in batch)
        left = set(range(len(self._waiting))).difference(chosen)
        self._waiting = [self._waiting[index] for index in sorted(left)]
        return batch

    def _run(self, batch: list[_Waiter]) -> None:
        self._running, self._running_since = batch, time.monotonic()
        results = self._assess([waiter.text for waiter in batch])
        took = time.monotonic() - self._running_since
        self._running, self._running_since = [], None
        self._pace.measured(sum(waiter.size for waiter in batch), took)
        # After a hanging classifier was left behind its loop may have ended.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(_deliver, batch, results)

    def _assess(self, texts: list[str]) -> list[Assessment | Exception]:
        """Assess a batch; where it fails, each of its texts alone, so that one cannot fail the others."""
        try:
            found = self.classifier.assess(texts)
            return [each for each, _ in zip(found, texts, strict=True)]
        except Exception as error:
            return [error] if len(texts) == 1 else [self._assess([text])[0] for text in texts]


def _deliver(batch: list[_Waiter], results: list[Assessment | Exception]) -> None:
    for waiter, result in zip(batch, results, strict=True):
        if waiter.future.done():
            continue
        if isinstance(result, Exception):
            waiter.future.set_exception(result)
        else:
            waiter.future.set_result(result)
