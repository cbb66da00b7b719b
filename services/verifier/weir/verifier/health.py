"""Whether the engine would serve, known without waiting."""

from __future__ import annotations

import asyncio

from weir.common.errors import ErrorCode, WeirError
from weir.engines.base import Capability, Engine, Health

PERIOD_S = 0.2


class EngineWatch:
    """A component that asks the engine for its health, over and over."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._task: asyncio.Task[None] | None = None
        self.ready = False

    async def start(self) -> None:
        """Ask once, then go on in the background; comes after the engine's own start.

        Raises:
            WeirError: UNSUPPORTED where the engine keeps no sessions to verify with.
        """
        if Capability.SESSION not in self._engine.info.capabilities:
            hint = f"The {self._engine.info.engine} engine keeps no sessions, which the verifier needs."
            raise WeirError(ErrorCode.UNSUPPORTED, hint)
        await self._ask()
        self._task = asyncio.create_task(self._watch())

    async def aclose(self) -> None:
        """Stop asking."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _ask(self) -> None:
        self.ready = await self._engine.health() is Health.READY

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(PERIOD_S)
            await self._ask()
