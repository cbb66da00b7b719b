"""The two metrics that can be held: when they are out of the band, and how far bounds would leave them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from weir.router.control.forecast import Forecast
from weir.router.control.summary import Measured

SLOW_SHARE = 0.05
# Standard errors by which a breach must show, and by which relief and return must stay clear of one.
SURE_BREACH, SURE_RELIEF, SURE_RETURN = 2.6, 2.3, 3.0
# Costs spread more than shares do.
SURE_COST = 2.0


class Metric(Protocol):
    """What is held. ``trim`` is the correction of the forecast (see ``trim``), in units of ``load``."""

    @property
    def name(self) -> str:
        """As in the configuration."""
        ...

    @property
    def unit(self) -> str:
        """Of the target."""
        ...

    @property
    def target(self) -> float:
        """What it is held at."""
        ...

    @property
    def band(self) -> float:
        """Share around the target within which nothing moves."""
        ...

    def value(self, forecast: Forecast) -> float | None:
        """Return the metric in its unit."""
        ...

    def load(self, forecast: Forecast) -> float:
        """Return the metric's use of what is allowed; 1 is the target."""
        ...

    def measured(self, answered: Measured) -> tuple[float, float] | None:
        """Return the load of what was answered, and its standard error."""
        ...

    def breached(self, forecast: Forecast, trim: float) -> bool:
        """Whether the metric is past the band, beyond doubt."""
        ...

    def excess(self, forecast: Forecast, trim: float, *, returning: bool) -> float:
        """Return by how much bounds would miss the target, 0 where they hold it."""
        ...


@dataclass(frozen=True, slots=True)
class P95Latency:
    """The p95 of the time to the first token: at most 5 % of the answers may take longer than ``target``.

    In that form it is smooth in the shares of the tiers, where the p95 itself jumps from one tier's times to
    another's as a slow tier's share passes 5 %.
    """

    target: float
    band: float
    name: str = "p95_latency"
    unit: str = "s"

    def value(self, forecast: Forecast) -> float | None:  # noqa: D102
        return forecast.quantile(1 - SLOW_SHARE)

    def load(self, forecast: Forecast) -> float:  # noqa: D102
        return forecast.slow(self.target)[0] / SLOW_SHARE

    def measured(self, answered: Measured) -> tuple[float, float] | None:  # noqa: D102
        if not answered.effective:
            return None
        slow = answered.sketch.above(self.target) / answered.weight
        return slow / SLOW_SHARE, (max(slow, SLOW_SHARE) / answered.effective) ** 0.5 / SLOW_SHARE

    def breached(self, forecast: Forecast, trim: float) -> bool:  # noqa: D102
        slow, error = forecast.slow(self.target * (1 + self.band))
        return slow - SURE_BREACH * error + trim * SLOW_SHARE > SLOW_SHARE

    def excess(self, forecast: Forecast, trim: float, *, returning: bool) -> float:  # noqa: D102
        slow, error = forecast.slow(self.target)
        sure = SURE_RETURN if returning else SURE_RELIEF
        return max(0.0, (slow + sure * error) / SLOW_SHARE + trim - 1)


@dataclass(frozen=True, slots=True)
class CostPerQuery:
    """The mean cost of a request, USD. ``level`` holds it at the target from below too."""

    target: float
    band: float
    level: bool = False
    name: str = "cost_per_query"
    unit: str = "USD"

    def value(self, forecast: Forecast) -> float | None:  # noqa: D102
        return forecast.cost_usd if forecast.cases else None

    def load(self, forecast: Forecast) -> float:  # noqa: D102
        return forecast.cost_usd / self.target

    def measured(self, answered: Measured) -> tuple[float, float] | None:  # noqa: D102
        mean = answered.mean_cost
        if mean is None or not answered.effective:
            return None
        # Costs of answers spread about as widely as they are large.
        return mean / self.target, mean / self.target / answered.effective**0.5

    def breached(self, forecast: Forecast, trim: float) -> bool:  # noqa: D102
        sure = (forecast.cost_usd - SURE_COST * forecast.cost_error) / self.target + trim > 1
        return sure and self.load(forecast) + trim > 1 + self.band

    def excess(self, forecast: Forecast, trim: float, *, returning: bool) -> float:  # noqa: D102
        allowed = 1 - self.band if returning and not self.level else 1.0
        return max(0.0, self.load(forecast) + trim - allowed)
