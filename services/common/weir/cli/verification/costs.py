"""What a draft step and a verification take, and the speed that no schedule of the two can exceed."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass

import numpy as np

from weir.engines.base import ChatMessage, Sampling, Session, SessionEngine
from weir.verifier.speculation.gain import expected_tokens

# Tokens verified in one pass: at most the longest draft of the tier's defaults and the token before it.
SIZES = (1, 2, 3, 4, 5, 6, 8, 9, 12, 16, 17)
_DRAFTED = 8
# As the verifier asks for them.
_CANDIDATES = 2
_TEXT = "The water cycle describes how water moves between the oceans, the air and the land over time. " * 3


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds for one drafted token, and for verifying so many tokens at once."""

    draft_s: float
    verify_s: Mapping[int, float]

    def verifying(self, tokens: float) -> float:
        """Return what a pass over so many tokens takes, between the sizes measured by interpolation."""
        sizes = sorted(self.verify_s)
        return float(np.interp(tokens, sizes, [self.verify_s[size] for size in sizes]))

    def round(self, drafted: float) -> float:
        """Return what a round takes that drafts so many tokens and then verifies them."""
        return drafted * self.draft_s + self.verifying(drafted + 1)


def bound(costs: Costs, acceptance: float) -> tuple[float, int]:
    """Return the most tokens a second at any fixed draft length k, 0 included, and that length.

    With drafts that stand with probability a each this is E(a, k) / (k t_d + t_v(k+1)), where
    E = (1 - a^(k+1)) / (1 - a) (Leviathan et al. 2023, equation 1).
    """
    lengths = range(max(costs.verify_s))
    return max((expected_tokens(acceptance, k) / costs.round(k), k) for k in lengths)


class CostMeter:
    """Measures both engines on sessions of its own, a little at a time: a shared machine's speed drifts."""

    def __init__(self, drafter: SessionEngine, target: SessionEngine) -> None:
        self._engines = drafter, target
        self._stack = AsyncExitStack()
        self._draft_s: list[float] = []
        self._verify_s: dict[int, list[float]] = {size: [] for size in SIZES}

    async def __aenter__(self) -> CostMeter:
        self._drafter, self._target = [await self._open(engine) for engine in self._engines]
        await self._sample()  # the first of each size makes ready what later ones use
        self._draft_s.clear()
        for times in self._verify_s.values():
            times.clear()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def sample(self) -> None:
        """Measure everything once more."""
        await self._sample()

    @property
    def costs(self) -> Costs:
        """Medians of all samples."""
        verify = {size: statistics.median(times) for size, times in self._verify_s.items()}
        return Costs(statistics.median(self._draft_s), verify)

    async def _open(self, engine: SessionEngine) -> tuple[Session, list[int]]:
        session = await engine.open_session()
        self._stack.push_async_callback(session.aclose)
        ids = engine.codec.encode_chat([ChatMessage("user", _TEXT)])
        await session.extend(ids, last_only=True)
        return session, ids

    async def _sample(self) -> None:
        for size in SIZES:
            self._verify_s[size].append(await self._verify(size))
            if size >= _DRAFTED:
                self._draft_s.append(await self._draft())

    async def _draft(self) -> float:
        """Draft as in a round: right behind a pass of the target, which leaves the processor's caches cold,
        and after two tokens, the last draft and the verifier's own."""
        session, ids = self._drafter
        length, started = session.length, time.perf_counter()
        drafted = await session.draft(ids[-2:], _DRAFTED, sampling=Sampling(temperature=0.0))
        taken = (time.perf_counter() - started) / len(drafted)
        await session.rewind(length)
        return taken

    async def _verify(self, size: int) -> float:
        session, ids = self._target
        length, started = session.length, time.perf_counter()
        await session.extend(ids[:size], top=_CANDIDATES)
        taken = time.perf_counter() - started
        await session.rewind(length)
        return taken
