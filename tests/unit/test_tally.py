"""Tallies: cheap to add to, and on the page of metrics what a counter would be."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import Meter
from opentelemetry.sdk.metrics import MeterProvider, ObservableCounter
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from prometheus_client import CollectorRegistry, generate_latest

from weir.common.tally import Tally

KEYS = ("weir.model", "weir.stand_in")


def page(measure: Callable[[Meter], None]) -> str:
    """Return what Prometheus reads of a process that measures this."""
    registry = CollectorRegistry()
    provider = MeterProvider([PrometheusMetricReader(registry=registry)])
    measure(provider.get_meter("weir"))
    text = generate_latest(registry).decode()
    provider.shutdown()
    return text


def test_a_tally_is_shown_as_the_counter_that_it_stands_for() -> None:
    def counter(meter: Meter) -> None:
        made = meter.create_counter("weir.frontier.cost", "USD", "Cost")
        for amount, model in ((0.25, "small"), (1, "large"), (0.5, "small")):
            made.add(amount, dict(zip(KEYS, (model, False), strict=True)))

    def tally(meter: Meter) -> None:
        made = Tally(meter.create_observable_counter, "weir.frontier.cost", "USD", "Cost", KEYS)
        for amount, model in ((0.25, "small"), (1, "large"), (0.5, "small")):
            made.add(amount, model, False)

    shown = page(tally)
    assert 'weir_model="small",weir_stand_in="false"} 0.75' in shown
    assert shown == page(counter)


def test_what_goes_up_and_down_is_shown_as_such() -> None:
    def counter(meter: Meter) -> None:
        made = meter.create_up_down_counter("weir.rpc.in_flight", "{rpc}", "RPCs")
        for amount in (1, 1, -1):
            made.add(amount, {"rpc.method": "weir.v1.Some/Do"})

    def tally(meter: Meter) -> None:
        create = meter.create_observable_up_down_counter
        made = Tally(create, "weir.rpc.in_flight", "{rpc}", "RPCs", ("rpc.method",))
        for amount in (1, 1, -1):
            made.add(amount, "weir.v1.Some/Do")

    shown = page(tally)
    assert 'rpc_method="weir.v1.Some/Do"} 1.0' in shown
    assert shown == page(counter)


def test_a_reader_of_differences_gets_what_was_added_since_it_last_read() -> None:
    reader = InMemoryMetricReader({ObservableCounter: AggregationTemporality.DELTA})
    meter = MeterProvider([reader]).get_meter("weir")
    tally = Tally(meter.create_observable_counter, "weir.frontier.attempts", "1", "Attempts", ("weir.model",))

    def added() -> list[float]:
        data = reader.get_metrics_data()
        assert data
        (metric,) = data.resource_metrics[0].scope_metrics[0].metrics
        return [point.value for point in metric.data.data_points if hasattr(point, "value")]

    tally.add(3, "small")
    first = added()
    tally.add(4, "small")
    assert (first, added()) == ([3], [4])


@pytest.fixture
def restless_threads() -> Iterator[None]:
    """Let threads take turns as often as they can."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


@pytest.mark.usefixtures("restless_threads")
def test_nothing_is_lost_where_threads_add_at_once() -> None:
    registry = CollectorRegistry()
    provider = MeterProvider([PrometheusMetricReader(registry=registry)])
    create = provider.get_meter("weir").create_observable_counter
    tally = Tally(create, "weir.frontier.attempts", "1", "Attempts", ("weir.model",))

    def work() -> None:
        for _ in range(5_000):
            tally.add(1, "small")

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(work) for _ in range(4)]:
            done.result()
    assert 'weir_model="small"} 20000.0' in generate_latest(registry).decode()
    provider.shutdown()
