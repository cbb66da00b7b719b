"""The event loop's side of the hand-over to the ledger's thread: one batch at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from queue import SimpleQueue

from weir.frontier_proxy.ledger.requests import Answers, Outcome, Question, Request, Reserve, deliver

# How long what nobody waits for may wait for company: a request's settlement then shares a commit with the
# next one's reservation. A crash meanwhile costs what one at any time of the attempt does.
LINGER_S = 0.005


class Outbox:
    """Gathers requests in their order; what comes while a batch is written makes the next one.

    ``batches`` is for the thread, which has ``written`` called once for each; ``None`` is the end.

    Args:
        loop: whose thread alone calls this.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.batches: SimpleQueue[Sequence[Request] | None] = SimpleQueue()
        self._loop = loop
        self._waiting: list[Request] = []
        self._urgent = self._writing = False
        self._sending: asyncio.Handle | None = None

    def outcome(self) -> Outcome:
        """Return what a request is answered by."""
        return self._loop.create_future()

    def put(self, request: Request) -> None:
        """Have a request served, with all others of this turn of the event loop."""
        self._waiting.append(request)
        hurries = not self._urgent and isinstance(request, Reserve | Question)
        self._urgent = self._urgent or hurries
        if self._writing:
            return
        if hurries:
            self._put_off()
            self._sending = self._loop.call_soon(self._send)
        elif self._sending is None:
            self._sending = self._loop.call_later(LINGER_S, self._send)

    def written(self, answers: Answers) -> None:
        """Give a batch's answers to those who wait, and send the next one."""
        deliver(answers)
        self._writing = False
        if self._urgent:
            self._send()
        elif self._waiting:
            self._sending = self._loop.call_later(LINGER_S, self._send)

    def close(self) -> None:
        """Send all that waits, and the end."""
        if self._waiting:
            self._send()
        self.batches.put(None)

    def _send(self) -> None:
        self._put_off()
        batch, self._waiting = self._waiting, []
        self._urgent, self._writing = False, True
        self.batches.put(batch)

    def _put_off(self) -> None:
        if self._sending:
            self._sending.cancel()
            self._sending = None
