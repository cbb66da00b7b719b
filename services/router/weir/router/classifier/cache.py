"""Judgments of identical prompts: kept for later, and made once where several ask at the same time."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import replace

from weir.router.classifier.base import Judgment, Question


class JudgmentCache:
    """A bounded LRU of assessments by the prompt's hash; no text is kept, and no choice of a tier.

    What may answer is decided anew for every request, so a kept judgment cannot widen it. Belongs to one
    revision: the next one gets a cache of its own, and the revision is part of the hash as well.
    """

    def __init__(self, revision: str, entries: int) -> None:
        self._entries = entries
        # BLAKE2b takes keys of up to 64 bytes.
        self._revision = revision.encode()[:64]
        self._kept: OrderedDict[bytes, Judgment] = OrderedDict()
        self._flights: dict[bytes, asyncio.Future[Judgment | None]] = {}

    def __len__(self) -> int:
        return len(self._kept)

    async def ask(self, question: Question, judge: Callable[[str], Awaitable[Judgment]]) -> Judgment:
        """Return the kept judgment, that of whoever asks the same at present, or a new one.

        Only judgments without a note are kept, as a fallback says nothing of the prompt, and none for a
        question that must leave nothing behind.
        """
        if not self._entries:
            return await judge(question.text)
        key = self._key(question.text)
        while True:
            if (kept := self._kept.get(key)) is not None:
                self._kept.move_to_end(key)
                return kept
            if (flight := self._flights.get(key)) is None:
                return await self._fly(key, question, judge)
            # Without an answer the first of them was cancelled: one of those who wait takes its place.
            if (shared := await asyncio.shield(flight)) is not None:
                self._keep(key, question, shared)
                return shared

    def _key(self, text: str) -> bytes:
        data = text.encode(errors="surrogatepass")
        return hashlib.blake2b(data, digest_size=16, key=self._revision).digest()

    async def _fly(
        self, key: bytes, question: Question, judge: Callable[[str], Awaitable[Judgment]]
    ) -> Judgment:
        flight = self._flights[key] = asyncio.get_running_loop().create_future()
        judgment: Judgment | None = None
        try:
            judgment = await judge(question.text)
        finally:
            del self._flights[key]
            flight.set_result(judgment and _as_cached(judgment))
        self._keep(key, question, judgment)
        return judgment

    def _keep(self, key: bytes, question: Question, judgment: Judgment) -> None:
        if not question.keep or judgment.note:
            return
        self._kept[key] = _as_cached(judgment)
        if len(self._kept) > self._entries:
            self._kept.popitem(last=False)


def _as_cached(judgment: Judgment) -> Judgment:
    """Mark as kept; a prior stays one."""
    return judgment if judgment.by in ("prior", "cache") else replace(judgment, by="cache")
