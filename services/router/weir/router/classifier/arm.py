"""A classifier in force: its cascade behind its cache, what it has judged, and who still uses it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from weir.router.classifier.base import Judgment, Question
from weir.router.classifier.cache import JudgmentCache
from weir.router.classifier.cascade import Cascade


@dataclass(slots=True)
class Tally:
    """Counts of prompts since the start."""

    judged: int = 0
    cached: int = 0
    fallbacks: int = 0


class Arm:
    """Judges until it is replaced. ``own`` counts all prompts, ``large`` those that the cascade passed on."""

    def __init__(self, cascade: Cascade, cache_entries: int, own: Tally, large: Tally) -> None:
        self.cascade, self.revision = cascade, cascade.revision
        self._cache = JudgmentCache(cascade.revision, cache_entries)
        self._own, self._large = own, large
        self._uses = 0
        self._unused: asyncio.Event | None = None

    async def judge(self, question: Question) -> Judgment:
        """Judge; never fails for the classifier's sake."""
        self._uses += 1
        try:
            judgment = await self._cache.ask(question, self.cascade.judge)
        finally:
            self._uses -= 1
            if self._unused and not self._uses:
                self._unused.set()
        self._count(judgment)
        return judgment

    async def drained(self) -> None:
        """Return once nobody uses it; the caller has seen to it that nobody starts to."""
        if self._uses:
            self._unused = asyncio.Event()
            await self._unused.wait()

    def _count(self, judgment: Judgment) -> None:
        self._own.judged += 1
        self._own.cached += judgment.by == "cache"
        self._own.fallbacks += judgment.by == "prior"
        late = judgment.note.startswith("cascade_")
        self._large.judged += judgment.by == "cascade" or late
        self._large.fallbacks += late
