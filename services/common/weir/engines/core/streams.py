"""What a generation's owner reads: outputs of the core, merged while it is not reading."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from weir.common.errors import WeirError
from weir.engines.core import messages as m


class OutputStream:
    """Outputs of one generation; bounded, as at most ``max_tokens`` tokens gather in it."""

    def __init__(self, number: int, abort: Callable[[int], None]) -> None:
        self._number = number
        self._abort = abort
        self._outputs: list[m.Output] = []
        self._error: WeirError | None = None
        self._news = asyncio.Event()
        self._enough = asyncio.Event()
        self._wanted = 1

    def put(self, output: m.Output) -> None:
        """Add an output."""
        self._outputs.append(output)
        self._news.set()
        if output.finish or len(self._outputs) >= self._wanted:
            self._enough.set()

    def fail(self, error: WeirError) -> None:
        """End the stream with an error, after what has come before it."""
        self._error = error
        self._news.set()
        self._enough.set()

    async def read(self, wanted: int = 1, within_s: float = 0.0) -> list[m.Output]:
        """Wait for outputs and return all that have come.

        After the first, ``wanted`` outputs in all are awaited for ``within_s`` seconds, or the last one.

        Raises:
            WeirError: the generation failed.
        """
        self._wanted = wanted
        await self._news.wait()
        if len(self._outputs) < wanted and not self._enough.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(within_s):
                    await self._enough.wait()
        self._news.clear()
        self._enough.clear()
        outputs, self._outputs = self._outputs, []
        if self._error is not None and not outputs:
            raise self._error
        if self._error is not None:
            self._news.set()
            self._enough.set()
        return outputs

    def close(self) -> None:
        """Abort the generation if it still runs. May be called twice."""
        self._abort(self._number)
