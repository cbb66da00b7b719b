"""Looks again and again for what proxies that died have left on the ledger, while this one lives."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from weir.common.errors import WeirError

PERIOD_S = 60.0
log = structlog.get_logger(__name__)


class Recovery:
    """A component, to be started behind the ledger.

    Args:
        recover: settles what was left; it may raise WeirError, and is then tried at the next turn.
        period_s: between two turns.
    """

    def __init__(self, recover: Callable[[], Awaitable[None]], period_s: float = PERIOD_S) -> None:
        self._recover, self._period_s = recover, period_s
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to look."""
        self._task = asyncio.create_task(self._run())

    async def aclose(self) -> None:
        """Look no more; idempotent."""
        task, self._task = self._task, None
        if task:
            task.cancel()
            await asyncio.wait([task])

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._period_s)
            try:
                await self._recover()
            except WeirError as error:
                log.warning("recovery_failed", code=error.code, reason=error.internal)
