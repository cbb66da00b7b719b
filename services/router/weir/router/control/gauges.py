"""The controller's metrics: thresholds in force, what it is doing, and how each tier fares."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from weir.common import conventions as names
from weir.common.telemetry import meter
from weir.router.control.state import KNOBS, Phase

if TYPE_CHECKING:
    from weir.router.control.controller import Status


class Gauges:
    """OpenTelemetry gauges, set at every look."""

    def __init__(self) -> None:
        create = meter().create_gauge
        self._threshold = create("weir.router.threshold", "1", "Threshold in force")
        self._phase = create("weir.router.controller.state", "1", "1 for what the controller is doing")
        self._errors = create("weir.router.tier.error_rate", "1", "Share of failed attempts in the window")
        self._escalations = create(
            "weir.router.tier.escalation_rate", "1", "Share of answers that another tier had to finish"
        )

    def show(self, status: Status) -> None:
        """Set all of them."""
        for knob in KNOBS:
            self._threshold.set(getattr(status.state, knob), {"threshold": knob})
        for phase in get_args(Phase):
            self._phase.set(int(phase == status.state.phase), {"state": phase})
        for tier, measured in status.tiers.items():
            if measured.count:
                self._errors.set(measured.error_rate, {names.TIER: tier.value})
                self._escalations.set(measured.escalation_rate, {names.TIER: tier.value})
