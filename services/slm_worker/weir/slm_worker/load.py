"""The worker's load: kept from admission and engine, told to all who watch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from weir.common import conventions as names
from weir.common.telemetry import meter
from weir.engines.base import Engine, Health
from weir.slm_worker.admission import Admission

# Asking a remote engine for its health is a request over the network.
HEALTH_PERIOD_S = 0.25


@dataclass(frozen=True, slots=True)
class WorkerLoad:
    """What a router balances on; ``kv_cache_used`` is a share, 0 to 1."""

    running: int
    waiting: int
    capacity: int
    kv_cache_used: float


class LoadBoard:
    """Puts admission and engine together, and wakes its watchers when either changed."""

    def __init__(self, engine: Engine, admission: Admission) -> None:
        self.health = Health.STARTING
        self._engine, self._admission = engine, admission
        self._changed = asyncio.Event()
        self._present = WorkerLoad(0, 0, admission.capacity, 0.0)
        self._asking: asyncio.Task[None] | None = None
        admission.on_change = self._update
        engine.on_load_change(self._update)
        gauge = meter().create_gauge
        self._gauges = (
            gauge(names.ENGINE_RUNNING, "{request}", "Requests being decoded"),
            gauge(names.ENGINE_WAITING, "{request}", "Requests waiting for a place"),
            gauge(names.ENGINE_KV_USED, "1", "Share of the KV cache in use"),
        )

    async def start(self) -> None:
        """Begin asking for the engine's health; the engine must have started."""
        self.health = await self._engine.health()
        self._asking = asyncio.create_task(self._keep_asking())

    async def aclose(self) -> None:
        """Stop asking; idempotent."""
        asking, self._asking = self._asking, None
        if asking:
            asking.cancel()
            await asyncio.wait([asking])

    async def watch(self) -> AsyncGenerator[WorkerLoad, None]:
        """Yield the present load, then each that differs from the one before."""
        told: WorkerLoad | None = None
        while True:
            changed = self._changed
            if self._present != told:
                told = self._present
                yield told
            else:
                await changed.wait()

    async def _keep_asking(self) -> None:
        while True:
            self.health = await self._engine.health()
            await asyncio.sleep(HEALTH_PERIOD_S)

    def _update(self) -> None:
        engine, admission = self._engine.load, self._admission
        now = WorkerLoad(
            # A request counts until the engine itself has let go of it.
            running=max(admission.running, engine.running),
            waiting=admission.waiting,
            capacity=admission.capacity,
            kv_cache_used=round(engine.kv_cache_used, 2),
        )
        if now != self._present:
            self._present = now
            for gauge, value in zip(self._gauges, (now.running, now.waiting, now.kv_cache_used), strict=True):
                gauge.set(value)
            self._changed.set()
            self._changed = asyncio.Event()
