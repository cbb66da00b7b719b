"""One meter provider for the whole test process; OpenTelemetry admits no second."""

from dataclasses import dataclass
from functools import cache
from typing import Any

from opentelemetry import metrics
from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider, ObservableCounter
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader, Sum


@cache
def _reader() -> InMemoryMetricReader:
    delta = AggregationTemporality.DELTA
    reader = InMemoryMetricReader({Counter: delta, ObservableCounter: delta, Histogram: delta})
    metrics.set_meter_provider(MeterProvider([reader]))
    return reader


@dataclass(frozen=True)
class Metered:
    """The points of each instrument."""

    points: dict[str, list[Any]]

    def total(self, name: str, **labels: str) -> float:
        """Return the sum of a counter, or of a histogram's values, over the points with these labels."""
        found = self._having(name, labels)
        return float(sum(point.sum if hasattr(point, "sum") else point.value for point in found))

    def count(self, name: str, **labels: str) -> int:
        """Return how many values a histogram took."""
        return int(sum(point.count for point in self._having(name, labels)))

    def by(self, name: str, label: str) -> dict[str, float]:
        """Return a counter's sums by the values of one label."""
        values = {str(point.attributes[label]) for point in self.points.get(name, [])}
        return {value: self.total(name, **{label: value}) for value in values}

    def _having(self, name: str, labels: dict[str, str]) -> list[Any]:
        found = self.points.get(name, [])
        return [point for point in found if labels.items() <= dict(point.attributes).items()]


def metered() -> Metered:
    """Return what was measured since the last call; the first one of a test is to forget what came before."""
    data = _reader().get_metrics_data()
    points: dict[str, list[Any]] = {}
    for resource in data.resource_metrics if data else []:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                points.setdefault(metric.name, []).extend(_told(metric.data))
    return Metered(points)


def _told(data: Any) -> list[Any]:
    """Return the points; of counters, those that have grown, since a tally shows the others too."""
    counter = isinstance(data, Sum) and data.is_monotonic
    return [point for point in data.data_points if not counter or point.value]
