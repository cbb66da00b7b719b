"""The router's state as the GetStatus answer tells it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from google.protobuf.duration_pb2 import Duration

from weir.router.control.controller import Controller, Status
from weir.router.control.state import Move
from weir.router.domain import Tier
from weir.v1 import router_pb2, types_pb2

_TIERS = {
    Tier.SLM: types_pb2.TIER_SLM,
    Tier.HYBRID: types_pb2.TIER_HYBRID,
    Tier.FRONTIER: types_pb2.TIER_FRONTIER,
}
Classifiers = Callable[[], Sequence[router_pb2.ClassifierStatus]]


class Introspection:
    """Answers GetStatus.

    Args:
        controller: whose thresholds and measurements are told.
        available: whether a tier can be reached.
        classifiers: what the classifiers tell of themselves.
    """

    def __init__(
        self, controller: Controller, available: Callable[[Tier], bool], classifiers: Classifiers = tuple
    ) -> None:
        self._controller, self._available, self._classifiers = controller, available, classifiers
        self._since = controller.status().now

    def status(self) -> router_pb2.GetStatusResponse:
        """Return what the router does at present and why."""
        self._controller.measure()
        status = self._controller.status()
        return router_pb2.GetStatusResponse(
            classifiers=self._classifiers(),
            tiers=[_tier(tier, status, available=self._available(tier)) for tier in Tier],
            controller=controller_to_proto(status),
            uptime=_duration(status.now - self._since),
        )


def controller_to_proto(status: Status) -> router_pb2.ControllerStatus:
    """Return what the controller does; a target that nothing holds is 0."""
    law, state = status.law, status.state
    return router_pb2.ControllerStatus(
        enabled=status.enabled,
        metric=law.metric.name,
        value=state.value or 0.0,
        target=law.metric.target if math.isfinite(law.metric.target) else 0.0,
        complexity_threshold=state.complexity,
        configured_complexity_threshold=law.home.complexity,
        confidence_threshold=state.confidence,
        state=state.phase if status.enabled else "holding",
        moves=[_move(move, status.now) for move in state.moves],
        shared=status.shared,
    )


def _move(move: Move, now: float) -> router_pb2.ControllerMove:
    return router_pb2.ControllerMove(
        age=_duration(now - move.at),
        before=move.before,
        after=move.after,
        reason=f"{move.knob}: {move.reason}",
    )


def _tier(tier: Tier, status: Status, *, available: bool) -> router_pb2.TierStatus:
    measured = status.tiers[tier]
    p95 = measured.sketch.quantile(0.95)
    return router_pb2.TierStatus(
        tier=_TIERS[tier],
        available=available,
        share=status.summary.volume[tier],
        p95_first_token=None if p95 is None or math.isinf(p95) else _duration(p95),
        mean_cost_usd=measured.mean_cost or 0.0,
        error_rate=measured.error_rate,
        escalation_rate=measured.escalation_rate,
    )


def _duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromNanoseconds(max(0, int(seconds * 1e9)))
    return duration
