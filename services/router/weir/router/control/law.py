"""The control law: state and summary in, state out. Pure, so that a recorded trace can be run through it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import msgspec

from weir.router.case import Bounds
from weir.router.control import trim
from weir.router.control.avoidance import avoided
from weir.router.control.forecast import Choose, Forecast, Forecaster
from weir.router.control.metric import SLOW_SHARE, SURE_BREACH, P95Latency
from weir.router.control.search import SAME_QUALITY, Judged, distance, highest, nearest
from weir.router.control.settings import Law
from weir.router.control.state import Phase, State
from weir.router.control.summary import Summary
from weir.router.domain import Tier

# Fewer attempts or requests than this say nothing.
FEWEST = 20
FEWEST_OF_TIER = 10
LEAST_MOVE = 0.01
# By how much quality may fall at the configured thresholds, unless configured.
QUALITY_SLACK = 0.05
# A return covers at least so much of the way home: fewer steps, each on more evidence.
RETURN_SHARE = 1 / 3
# Quality may drift so far below its floor before that alone moves anything.
QUALITY_BAND = 0.01
# Share that an avoided tier keeps, so that its recovery shows.
PROBE_SHARE = 0.04


def decide(law: Law, state: State, summary: Summary, choose: Choose, now: float) -> State:
    """Return the state after looking at ``summary``, moved by one step at most.

    Relief is sought when the forecast at the bounds in force is past the band beyond doubt, a tier has to be
    avoided, or quality fell below its floor; return when bounds nearer to the configured ones (a higher bar
    where a level is held) keep the metric with more certainty than relief asks for. Both wait until the
    bounds stood for the dwell time.
    """
    state = _learn(law, state, summary)
    look = _Look(law, state, Forecaster(summary, choose, state.slow_before), now)
    here = look.judge(state.bounds(law.home))
    if min(summary.count, here.forecast.cases) < FEWEST:
        return msgspec.structs.replace(state, phase="waiting")
    state = msgspec.structs.replace(state, value=law.metric.value(here.forecast))
    if now - state.moved_at < law.dwell_s:
        return state
    look.state = state = _trimmed(law, state, summary, here.forecast, now)
    here = look.judge(here.bounds)
    trouble = look.trouble(here)
    return look.relieve(here, trouble) if trouble else look.give_back(here)


def _learn(law: Law, state: State, summary: Summary) -> State:
    """Remember how each tier fares, for when nothing answers there any more."""
    slow = dict(state.slow_before)
    if isinstance(law.metric, P95Latency):
        for tier, measured in summary.tiers.items():
            if measured.count >= FEWEST_OF_TIER:
                slow[tier] = measured.sketch.above(law.metric.target) / measured.weight
    bad = avoided(state.avoided, summary.tiers, law.max_error_rate, law.max_escalation_rate)
    return msgspec.structs.replace(state, slow_before=slow, avoided=bad)


def _trimmed(law: Law, state: State, summary: Summary, forecast: Forecast, now: float) -> State:
    measured = law.metric.measured(summary.answered)
    error = 0.0
    if measured is not None and summary.answered.count >= FEWEST:
        load, noise = measured
        error = load - law.metric.load(forecast)
        error = 0.0 if abs(error) <= SURE_BREACH * noise else error
    windows = 0.0 if math.isinf(state.trimmed_at) else (now - state.trimmed_at) / law.window_s
    saturated = state.phase in ("at_bound", "at_quality_floor")
    integral, output = trim.step(state.integral, error, windows, law.trim_range, saturated=saturated)
    return msgspec.structs.replace(state, integral=integral, trim=output, trimmed_at=now)


@dataclass(slots=True)
class _Look:
    """One look at the window."""

    law: Law
    state: State
    forecast: Forecaster
    now: float
    returning: bool = False
    floored: bool = True

    def judge(self, bounds: Bounds) -> Judged:
        """Say what bounds would do."""
        expected = self.forecast(bounds)
        miss = self.law.metric.excess(expected, self.state.trim, returning=self.returning)
        return Judged(
            bounds,
            expected,
            shortfall=max(0.0, self._floor() - expected.quality) if self.floored else 0.0,
            excess=miss + self._crowding(expected),
            distance=distance(self.law.home, bounds),
        )

    def trouble(self, here: Judged) -> str:
        """Return why something has to change, empty if nothing has to."""
        bad = ", ".join(f"{tier} {self._fault(tier)}" for tier in Tier if tier in self.state.avoided)
        if bad and self._crowding(here.forecast):
            return bad
        if self.law.metric.breached(here.forecast, self.state.trim):
            return f"{self._metric(here)}, past {self.law.metric.target:.4g} {self.law.metric.unit}"
        if here.shortfall > QUALITY_BAND:
            return f"expected quality {here.forecast.quality:.3f}, below its floor {self._floor():.3f}"
        return ""

    def relieve(self, here: Judged, trouble: str) -> State:
        """Make the least move that ends the trouble, or the one that ends most of it."""
        if self.now - self.state.failed_relief_at < self.law.dwell_s:
            return self.state
        pick = self._search()
        better = pick.holds or pick.rank[:2] < here.rank[:2]
        if better and distance(pick.bounds, here.bounds) >= LEAST_MOVE:
            return self._move(here, pick, "relieving", trouble)
        return msgspec.structs.replace(
            self.state, phase="holding" if pick.holds else self._limit(), failed_relief_at=self.now
        )

    def give_back(self, here: Judged) -> State:
        """Go back toward the configured bounds, or buy more quality where a level is held."""
        state = msgspec.structs.replace(self.state, phase="holding")
        due = self.now - state.failed_return_at >= self.law.dwell_s
        if not due or not (self.law.level or here.distance > 0):
            return state
        self.returning = True
        pick = self._search()
        if self._worth(here, pick):
            return self._move(here, pick, "returning", self._metric(here))
        return msgspec.structs.replace(state, failed_return_at=self.now)

    def _worth(self, here: Judged, pick: Judged) -> bool:
        if not pick.holds or distance(pick.bounds, here.bounds) < LEAST_MOVE:
            return False
        if self.law.level:
            low = self.law.metric.load(here.forecast) + self.state.trim < 1 - self.law.metric.band
            return low and pick.forecast.quality > here.forecast.quality + SAME_QUALITY
        return here.distance - pick.distance >= RETURN_SHARE * here.distance

    def _search(self) -> Judged:
        if self.law.level:
            return highest(self.state.bounds(self.law.home), self.judge)
        return nearest(self.law.home, self.law.reach, self.judge)

    def _limit(self) -> Phase:
        """Say what stands in the way: the floor, if all would be well without it."""
        self.floored = False
        return "at_quality_floor" if self._search().holds else "at_bound"

    def _floor(self) -> float:
        if self.law.level:
            return self.law.quality_floor or 0.0
        usual = self.forecast(self.law.home).quality
        configured = self.law.quality_floor
        return max(0.0, usual - QUALITY_SLACK) if configured is None else min(configured, usual)

    def _crowding(self, forecast: Forecast) -> float:
        share = sum(forecast.shares[tier] for tier in self.state.avoided)
        return max(0.0, share - PROBE_SHARE) / SLOW_SHARE

    def _fault(self, tier: Tier) -> str:
        measured = self.forecast.tiers[tier]
        return f"fails in {measured.error_rate:.0%} and hands over in {measured.escalation_rate:.0%}"

    def _metric(self, here: Judged) -> str:
        value = self.law.metric.value(here.forecast)
        return f"{self.law.metric.name} {math.nan if value is None else value:.4g} {self.law.metric.unit}"

    def _move(self, here: Judged, pick: Judged, phase: Phase, reason: str) -> State:
        shares = ", ".join(
            f"{tier} {here.forecast.shares[tier]:.0%} to {pick.forecast.shares[tier]:.0%}"
            for tier in Tier
            if abs(here.forecast.shares[tier] - pick.forecast.shares[tier]) >= 0.005
        )
        return self.state.moved(pick.bounds, self.now, phase, f"{reason}; {shares}" if shares else reason)
