"""The controller over a trace, by the trace's clock: what it would have done before it goes live."""

from __future__ import annotations

import heapq
import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np

from weir.common.config import Settings
from weir.router.case import Bounds
from weir.router.control import settings as configured
from weir.router.control.choice import chosen
from weir.router.control.controller import Controller
from weir.router.control.settings import Law
from weir.router.control.state import Move
from weir.router.domain import Tier
from weir.router.replay.decisions import cost_usd
from weir.router.replay.trace import FINISHED, Episode

# The law is applied this often in a window, less often over long traces (but within each dwell time), and so
# often in all: a look takes some hundredths of a second. Live it is applied every second.
LOOKS_PER_WINDOW = 60
MAX_LOOKS = 4_000
# A gap without queries longer than so many windows is skipped: nothing is left to decide by.
IDLE_WINDOWS = 2
SPANS = 20
CANCELLED = "cancelled"


class Span(msgspec.Struct, frozen=True):
    """A part of the trace: seconds since its start, thresholds at its end, means and p95 of both courses.

    Times are seconds to the first token, infinite where so many failed; costs are USD per query.
    """

    start_s: float
    queries: int
    complexity: float
    confidence: float
    quality: float
    phase: str
    p95_recorded_s: float | None
    p95_controlled_s: float | None
    cost_recorded_usd: float
    cost_controlled_usd: float
    shares: dict[str, float]


class Course(msgspec.Struct, frozen=True):
    """The whole run; ``start`` is its first query, seconds since 1970, as are the times of ``moves``.

    ``unknown`` counts queries whose new tier was never measured, so that nothing was learned of them;
    ``left_out`` the first ones of a trace that is too long to be replayed whole.
    """

    metric: str
    target: float
    start: float
    spans: list[Span]
    moves: list[Move]
    whole: Span
    changed: int
    unknown: int
    left_out: int


@dataclass(slots=True)
class _Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True, slots=True)
class _Step:
    """One query as it was and as it would have been; NaN where unknown."""

    at: float
    tier: Tier | None
    recorded_s: float
    controlled_s: float
    recorded_usd: float
    controlled_usd: float
    bounds: Bounds
    phase: str


@dataclass(slots=True)
class _Series:
    """A tier's measured times in order, infinite for failures."""

    at: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def nearest(self, at: float) -> float:
        """Return the time measured nearest to a moment, NaN without any."""
        if not self.at:
            return math.nan
        place = bisect_left(self.at, at)
        around = [index for index in (place - 1, place) if 0 <= index < len(self.at)]
        return self.seconds[min(around, key=lambda index: abs(self.at[index] - at))]


def simulate(episodes: Sequence[Episode], settings: Settings) -> Course:
    """Run the controller that ``settings`` describe over a trace.

    A query whose tier stays takes as long as it did; one that goes elsewhere takes what that tier's answer
    nearest in time took, so that slow and failing hours show. What more load would have done to a tier is not
    in a trace.
    """
    whole = sorted(episodes, key=lambda episode: episode.at)
    ordered, busy_s = _end_of(whole, configured.law(settings))
    clock = _Clock(ordered[0].at)
    controller = Controller(settings, clock=clock)
    run = _Run(controller, clock, ordered, busy_s)
    steps = [run.ask(episode) for episode in ordered]
    law = controller.status().law
    return Course(
        metric=law.metric.name,
        target=law.metric.target,
        start=ordered[0].at,
        spans=list(_spans(steps)),
        moves=run.moves,
        whole=_span(steps, steps[0].at),
        changed=sum(step.tier is not episode.tier for step, episode in zip(steps, ordered, strict=True)),
        unknown=run.unknown,
        left_out=len(episodes) - len(ordered),
    )


def _end_of(ordered: Sequence[Episode], law: Law) -> tuple[Sequence[Episode], float]:
    """Return the last part of a trace that ``MAX_LOOKS`` suffice for, and its seconds without long gaps."""
    left = law.dwell_s * MAX_LOOKS
    for index in range(len(ordered) - 1, 0, -1):
        gap = min(ordered[index].at - ordered[index - 1].at, IDLE_WINDOWS * law.window_s)
        if gap > left:
            return ordered[index:], law.dwell_s * MAX_LOOKS - left
        left -= gap
    return ordered, law.dwell_s * MAX_LOOKS - left


class _Run:
    def __init__(
        self, controller: Controller, clock: _Clock, ordered: Sequence[Episode], busy_s: float
    ) -> None:
        self._controller, self._clock, self._series = controller, clock, _series(ordered)
        law = controller.status().law
        self._period = max(law.period_s, law.window_s / LOOKS_PER_WINDOW, busy_s / MAX_LOOKS)
        self._window = law.window_s
        self._looked_at = clock.now
        self._pending: list[tuple[float, int, Episode, Tier, float]] = []
        self._asked = 0
        self._version = 0
        self.moves: list[Move] = []
        self.unknown = 0

    def ask(self, episode: Episode) -> _Step:
        """Let time pass to the query and answer it."""
        self._pass(episode.at)
        bounds = self._controller.bounds()
        tier = chosen(episode.case, bounds)
        recorded = _seconds(episode)
        seconds = recorded if tier is episode.tier else self._elsewhere(episode, tier)
        if tier is not None and not math.isnan(seconds):
            self._asked += 1
            ends = episode.at + (0.0 if math.isinf(seconds) else seconds)
            heapq.heappush(self._pending, (ends, self._asked, episode, tier, seconds))
        elif tier is not None:
            self.unknown += 1
        return _Step(
            episode.at, tier, recorded, seconds, cost_usd(episode, episode.tier), cost_usd(episode, tier),
            bounds, self._controller.status().state.phase,
        )  # fmt: skip

    def _elsewhere(self, episode: Episode, tier: Tier | None) -> float:
        if tier is None:
            return math.nan
        measured = self._series[tier].nearest(episode.at)
        estimate = episode.case.estimates.get(tier)
        expected = estimate.first_token_s if estimate else None
        return measured if not math.isnan(measured) or expected is None else expected

    def _pass(self, until: float) -> None:
        """Apply the law at its times; where nothing happens for longer than a window, time is skipped."""
        if until - self._looked_at > IDLE_WINDOWS * self._window:
            self._observe(until)
            self._looked_at = until - self._window
        while self._looked_at + self._period <= until:
            self._looked_at += self._period
            self._observe(self._looked_at)
            self._clock.now = self._looked_at
            self._controller.update()
            self._note()
        self._observe(until)
        self._clock.now = until

    def _observe(self, until: float) -> None:
        while self._pending and self._pending[0][0] <= until:
            self._clock.now, _, episode, tier, seconds = heapq.heappop(self._pending)
            same = tier is episode.tier and episode.outcome is not None
            self._controller.observe(
                episode.case,
                tier,
                first_token_s=seconds,
                cost_usd=cost_usd(episode, tier),
                failed=math.isinf(seconds),
                handed_over=bool(same and episode.outcome and episode.outcome.handovers),
            )

    def _note(self) -> None:
        state = self._controller.status().state
        if state.version != self._version:
            self._version = state.version
            self.moves += [move for move in state.moves if move.at == state.moved_at]


def _seconds(episode: Episode) -> float:
    """Return how long the chosen tier took, infinity where it failed, NaN where nothing tells."""
    outcome = episode.outcome
    if outcome is None or (outcome.outcome == CANCELLED and outcome.first_token_s is None):
        return math.nan
    if outcome.outcome not in (FINISHED, CANCELLED):
        return math.inf
    return math.nan if outcome.first_token_s is None else outcome.first_token_s


def _series(ordered: Sequence[Episode]) -> dict[Tier, _Series]:
    series = {tier: _Series() for tier in Tier}
    for episode in ordered:
        seconds = _seconds(episode)
        by_itself = episode.outcome is not None and not episode.outcome.handovers
        if by_itself and not math.isnan(seconds):
            series[episode.tier].at.append(episode.at)
            series[episode.tier].seconds.append(seconds)
    return series


def _spans(steps: Sequence[_Step]) -> Iterator[Span]:
    start = steps[0].at
    length = max((steps[-1].at - start) / SPANS, 1e-9)
    parts: dict[int, list[_Step]] = {}
    for step in steps:
        parts.setdefault(min(SPANS - 1, int((step.at - start) / length)), []).append(step)
    return (_span(part, start) for _, part in sorted(parts.items()))


def _span(steps: Sequence[_Step], start: float) -> Span:
    last = steps[-1]
    count = len(steps)
    return Span(
        start_s=steps[0].at - start,
        queries=count,
        complexity=last.bounds.complexity,
        confidence=last.bounds.confidence,
        quality=last.bounds.quality,
        phase=last.phase,
        p95_recorded_s=_p95([step.recorded_s for step in steps]),
        p95_controlled_s=_p95([step.controlled_s for step in steps]),
        cost_recorded_usd=sum(step.recorded_usd for step in steps) / count,
        cost_controlled_usd=sum(step.controlled_usd for step in steps) / count,
        shares={tier.value: sum(step.tier is tier for step in steps) / count for tier in Tier},
    )


def _p95(seconds: Sequence[float]) -> float | None:
    known = np.sort([second for second in seconds if not math.isnan(second)])
    return float(known[math.ceil(0.95 * len(known)) - 1]) if len(known) else None
