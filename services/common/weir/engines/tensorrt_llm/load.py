"""The library's own account of its load, as it reports it while iterating."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from weir.engines.core.backend import Wake
from weir.engines.core.messages import Stats

_POLL_S = 0.25


class LoadWatch:
    """Follows ``get_stats_async``: requests queued inside the library, and the share of KV blocks in use."""

    def __init__(self, llm: Any, wake: Wake) -> None:
        self._llm = llm
        self._wake = wake
        self._queued = 0
        self._kv_used = 0.0

    async def run(self) -> None:
        """Take reports until cancelled; the library's iterator ends whenever it is idle."""
        while True:
            async for report in self._llm.get_stats_async(timeout=_POLL_S):
                self.take(report)
            await asyncio.sleep(_POLL_S)

    def take(self, report: str | Mapping[str, Any]) -> None:
        """Take one report: a mapping, or in some releases its JSON text."""
        content = json.loads(report) if isinstance(report, str) else report
        before = (self._queued, self._kv_used)
        self._queued = int(content.get("numQueuedRequests") or 0)
        blocks = content.get("kvCacheStats") or {}
        if blocks.get("maxNumBlocks"):
            self._kv_used = round(blocks.get("usedNumBlocks", 0) / blocks["maxNumBlocks"], 2)
        if before != (self._queued, self._kv_used):
            self._wake()

    def stats(self, active: int) -> Stats:
        """Split the ``active`` generations into running and waiting ones."""
        waiting = min(active, self._queued)
        return Stats(running=active - waiting, waiting=waiting, kv_cache_used=self._kv_used)
