"""Candidates whose circuits are logged and measured."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from weakref import WeakSet

import structlog
from opentelemetry.metrics import CallbackOptions, ObservableGauge, Observation

from weir.common import conventions as names
from weir.common.config.frontier import Frontier
from weir.common.telemetry import meter
from weir.frontier_proxy.breaker import Breaker, Cause, CircuitState
from weir.frontier_proxy.latency import FirstTextTimes
from weir.frontier_proxy.meters import instruments, labels
from weir.frontier_proxy.prices import ModelPrice
from weir.frontier_proxy.providers.base import Provider
from weir.frontier_proxy.selection import Candidate, Selection

log = structlog.get_logger(__name__)
_NUMBERS = {CircuitState.CLOSED: 0, CircuitState.HALF_OPEN: 1, CircuitState.OPEN: 2}
_observed: WeakSet[Selection] = WeakSet()


def measured(provider: Provider, price: ModelPrice, frontier: Frontier) -> Candidate:
    """Make a candidate with a circuit as configured, which says when it opens and closes."""

    def tell(cause: Cause | None, seconds: float) -> None:
        where = {"provider": provider.access.name, "model": price.model}
        if cause is None:
            log.info("circuit_closed", **where)
            return
        write = log.info if cause is Cause.RATE_LIMIT else log.warning
        write("circuit_opened", **where, cause=cause.value, seconds=round(seconds, 3))
        instruments().opened.add(1, {**labels(made), names.CAUSE: cause.value})

    breaker = Breaker(frontier.circuit_breaker, listener=tell)
    provider.access.entry.on_replaced(breaker.rekeyed)
    made = Candidate(provider, price, breaker, FirstTextTimes(frontier.hedging.min_samples))
    return made


def observe(selection: Selection) -> None:
    """Let the state of every circuit be measured for as long as ``selection`` lives."""
    _observed.add(selection)
    _gauge()


@cache
def _gauge() -> ObservableGauge:
    # Read at each export, since a circuit becomes half-open by nothing but the passing of time.
    described = "0 while a circuit is closed, 1 half-open, 2 open"
    return meter().create_observable_gauge(names.FRONTIER_CIRCUIT, [_states], "1", described)


def _states(options: CallbackOptions) -> Iterable[Observation]:
    for selection in list(_observed):
        for one in selection.offered:
            yield Observation(_NUMBERS[one.breaker.state], labels(one))
