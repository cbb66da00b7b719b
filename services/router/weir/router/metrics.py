"""The metrics that the configuration names, and the alerts on them."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from weir.common import conventions as names
from weir.common.config.model import Observability
from weir.common.telemetry import meter
from weir.router.domain import Finished, Tier
from weir.router.statistics import Statistics

log = structlog.get_logger(__name__)
FEWEST_SAMPLES = 20
# Percentiles are sorted for: once a second is often enough.
REVIEW_EVERY_S = 1.0


class RouterMetrics:
    """Records every answer; an empty ``observability.metrics`` means all of them.

    ``p95_latency`` is that of the time to the first token: a stream's whole length is its reader's choice.
    """

    def __init__(self, settings: Observability, statistics: Statistics) -> None:
        self._statistics = statistics
        self._reviewed_at = -REVIEW_EVERY_S
        wanted = set(settings.metrics)

        def on(name: str) -> bool:
            return not wanted or name in wanted

        create = meter()
        self._routed = create.create_counter("routing_distribution", "{request}", "Answers by tier")
        self._acceptance = create.create_histogram(
            "token_acceptance_rate",
            "1",
            "Accepted share of an answer's drafted tokens",
            explicit_bucket_boundaries_advisory=[step / 10 for step in range(1, 11)],
        )
        self._cost = create.create_histogram(
            "cost_per_query",
            "{USD}",
            "Cost of an answer",
            explicit_bucket_boundaries_advisory=[0, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1, 10],
        )
        self._failures = create.create_counter(
            "schema_validation_failures", "{answer}", "Answers that broke theirs"
        )
        self._p95 = create.create_gauge("p95_latency", "s", "95th percentile of the time to the first token")
        self._on = {name: on(name) for name in _NAMES}
        alerting = settings.alerting
        self._alerts = [
            _Alert("latency_p95", alerting.latency_p95_threshold_ms / 1000, lambda: _p95(statistics)),
            _Alert("schema_fail_rate", alerting.schema_fail_rate_threshold, lambda: _fail_rate(statistics)),
        ]

    def answered(self, tier: Tier, finished: Finished, *, schema_valid: bool | None) -> None:
        """Record one finished answer."""
        label = {names.TIER: tier.value}
        if self._on["routing_distribution"]:
            self._routed.add(1, label)
        if self._on["cost_per_query"]:
            self._cost.record(finished.cost_usd, label)
        if self._on["schema_validation_failures"] and schema_valid is False:
            self._failures.add(1, label)
        drafted = sum(usage.drafted_tokens for usage in finished.usage)
        if self._on["token_acceptance_rate"] and drafted:
            accepted = sum(usage.accepted_tokens for usage in finished.usage)
            self._acceptance.record(min(1.0, accepted / drafted), label)
        self._review()

    def _review(self) -> None:
        now = self._statistics.clock()
        if now - self._reviewed_at < REVIEW_EVERY_S:
            return
        self._reviewed_at = now
        if self._on["p95_latency"] and (p95 := _p95(self._statistics)) is not None:
            self._p95.set(p95)
        for alert in self._alerts:
            alert.check()


_NAMES = (
    "routing_distribution", "p95_latency", "token_acceptance_rate", "cost_per_query",
    "schema_validation_failures",
)  # fmt: skip


class _Alert:
    """Logs once when a bound is passed and once when it is kept again."""

    def __init__(self, name: str, bound: float, read: Callable[[], float | None]) -> None:
        self._name, self._bound, self._read = name, bound, read
        self._raised = False
        self._gauge = meter().create_gauge("weir.router.alert", "1", "1 while a bound is passed")

    def check(self) -> None:
        value = self._read()
        if value is None or (value > self._bound) is self._raised:
            return
        self._raised = not self._raised
        self._gauge.set(int(self._raised), {"alert": self._name})
        write = log.warning if self._raised else log.info
        write(
            "alert_raised" if self._raised else "alert_cleared",
            alert=self._name,
            value=value,
            bound=self._bound,
        )


def _p95(statistics: Statistics) -> float | None:
    window = statistics.first_tokens
    return window.percentile(0.95) if len(window.samples()) >= FEWEST_SAMPLES else None


def _fail_rate(statistics: Statistics) -> float | None:
    window = statistics.schema_failures
    return window.mean() if len(window.samples()) >= FEWEST_SAMPLES else None
