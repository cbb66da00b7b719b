"""The slow part of the law: a PI term on the forecast's error, with anti-windup."""

from __future__ import annotations

from dataclasses import dataclass

PROPORTIONAL = 0.25
# Per window.
INTEGRAL = 0.5
LARGEST = 0.5


@dataclass(frozen=True, slots=True)
class Range:
    """What the correction may be; 0 at the lower end lets it tighten alone."""

    low: float = 0.0
    high: float = LARGEST

    def clamp(self, value: float) -> float:
        """Return the nearest value inside."""
        return min(max(value, self.low), self.high)


def step(
    integral: float, error: float, windows: float, within: Range, *, saturated: bool
) -> tuple[float, float]:
    """Return the new integral and the correction.

    The forecast is a model of the plant without its delay, as in a Smith predictor (Smith 1957); what is fed
    back is only by how much the measurement differs from it (internal model control, Garcia and Morari 1982).
    The integral stands while the output is saturated and the error would drive it further (conditional
    integration, Astrom and Hagglund 1995, section 3.5), and is clamped always.

    Args:
        integral: so far.
        error: measured less forecast load; 0 within the measurement's noise.
        windows: time since the last step, in windows.
        within: limits of the correction.
        saturated: whether no tighter bounds are left.
    """
    bounded = max(-1.0, min(1.0, error))
    if not (saturated and bounded > 0):
        integral = within.clamp(integral + INTEGRAL * bounded * min(windows, 1.0))
    return integral, within.clamp(PROPORTIONAL * bounded + integral)
