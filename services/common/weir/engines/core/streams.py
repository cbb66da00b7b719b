"""What a generation's owner reads: outputs of the core, merged while it is not reading."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

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

    def put(self, output: m.Output) -> None:
        """Add an output."""
        self._outputs.append(output)
        self._news.set()

    def fail(self, error: WeirError) -> None:
        """End the stream with an error, after what has come before it."""
        self._error = error
        self._news.set()

    async def read(self) -> list[m.Output]:
        """Wait for outputs and return all that have come.

        Raises:
            WeirError: the generation failed.
        """
        await self._news.wait()
        self._news.clear()
        outputs, self._outputs = self._outputs, []
        if self._error is not None and not outputs:
            raise self._error
        if self._error is not None:
            self._news.set()
        return outputs

    def close(self) -> None:
        """Abort the generation if it still runs. May be called twice."""
        self._abort(self._number)
