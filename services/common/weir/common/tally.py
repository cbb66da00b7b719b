"""Counters for what comes with every request: adding is cheap, labels are made when metrics are read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Lock

from opentelemetry.metrics import CallbackOptions, Observation


class Tally:
    """A sum for each set of labels, shown among the metrics under the name that a counter would have.

    OpenTelemetry's own counters check, copy and hash the labels at each addition, 5 to 15 microseconds; here
    that waits until the metrics are read. Safe to add to from several threads.

    Args:
        create: of a meter: ``create_observable_counter``, or ``create_observable_up_down_counter`` where what
            is added may be negative.
        name: the metric's.
        unit: the metric's, in UCUM.
        described: says in a few words what is counted.
        keys: names of the labels, in the order in which ``add`` takes their values.
    """

    def __init__(
        self, create: Callable[..., object], name: str, unit: str, described: str, keys: Sequence[str]
    ) -> None:
        self._keys = tuple(keys)
        self._sums: dict[tuple[str | bool, ...], float] = {}
        self._lock = Lock()
        create(name, [self._read], unit, described)

    def add(self, amount: float, *values: str | bool) -> None:
        """Add ``amount`` to the sum that has these labels, a value for each key."""
        with self._lock:
            self._sums[values] = self._sums.get(values, 0) + amount

    def _read(self, _: CallbackOptions) -> list[Observation]:
        with self._lock:
            sums = list(self._sums.items())
        return [Observation(total, dict(zip(self._keys, values, strict=True))) for values, total in sums]
