"""The attempts and cases of the window, from which a summary is drawn."""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from weir.router.case import Case
from weir.router.control.change import latest_regime
from weir.router.control.sketch import Sketch
from weir.router.control.summary import Measured, Summary
from weir.router.domain import Tier

MAX_ATTEMPTS = 1024
MAX_CASES = 512
# Age at which an attempt weighs half, as a share of the window.
HALF_LIFE = 0.25


class Attempt(NamedTuple):
    """One tier's try at an answer: seconds to the first token (infinite if it failed) and USD."""

    at: float
    first_token_s: float
    cost_usd: float
    estimated_usd: float
    handed_over: bool


class Recorder:
    """Keeps the last ``window_s`` seconds, bounded in number; not safe for several threads."""

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._attempts: dict[Tier, deque[Attempt]] = {tier: deque(maxlen=MAX_ATTEMPTS) for tier in Tier}
        self._cases: OrderedDict[int, tuple[float, Case]] = OrderedDict()
        self._changed_at = -math.inf

    def add(self, case: Case, tier: Tier, attempt: Attempt) -> None:
        """Take an attempt in; several attempts at one case leave one case."""
        self._attempts[tier].append(attempt)
        self._cases.setdefault(id(case), (attempt.at, case))
        while len(self._cases) > MAX_CASES:
            self._cases.popitem(last=False)

    def snapshot(self, now: float, since: float) -> Snapshot:
        """Return a copy of what is in the window; ``since`` is when the bounds last moved."""
        oldest = now - self._window_s
        while self._cases and next(iter(self._cases.values()))[0] < oldest:
            self._cases.popitem(last=False)
        for tier in Tier:
            self._drop_before(tier, oldest)
        return Snapshot(
            now,
            self._window_s,
            max(since, self._changed_at),
            {tier: tuple(attempts) for tier, attempts in self._attempts.items()},
            [case for _, case in self._cases.values()],
        )

    def forget(self, regimes: Mapping[Tier, float]) -> None:
        """Drop what a tier did before its latest regime; it says nothing about what it does now."""
        for tier, began in regimes.items():
            self._drop_before(tier, began)
            self._changed_at = max(self._changed_at, began)

    def _drop_before(self, tier: Tier, time: float) -> None:
        attempts = self._attempts[tier]
        while attempts and attempts[0].at < time:
            attempts.popleft()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A window at one time. Immutable, so that another thread may sum it up."""

    now: float
    window_s: float
    since: float
    attempts: Mapping[Tier, Sequence[Attempt]]
    cases: list[Case]

    def summarize(self) -> tuple[Summary, dict[Tier, float]]:
        """Return the summary and, of tiers that changed, since when they are as they are."""
        tiers, regimes, tables = {}, {}, []
        for tier, attempts in self.attempts.items():
            table = np.fromiter(chain.from_iterable(attempts), np.float64).reshape(-1, len(Attempt._fields))
            tables.append(table)
            start = max(latest_regime(table[:, 1]), latest_regime(table[:, 2]))
            if start:
                regimes[tier] = float(table[start, 0])
            tiers[tier] = self._measure(table[start:])
        everything = np.concatenate(tables)
        since = max([self.since, *regimes.values()])
        answered = self._measure(everything[everything[:, 0] >= since])
        return Summary(tiers, answered, self.cases), regimes

    def _measure(self, table: npt.NDArray[np.float64]) -> Measured:
        at, seconds, cost, estimated, handed_over = table.T
        weights = 0.5 ** ((self.now - at) / (HALF_LIFE * self.window_s))
        return Measured(
            sketch=Sketch.of(seconds, weights),
            count=len(table),
            weight=float(weights.sum()),
            squares=float(weights @ weights),
            handed_over=float(weights @ handed_over),
            cost=float(weights @ cost),
            estimated=float(weights @ estimated),
        )
