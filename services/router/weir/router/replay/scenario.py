"""What is asked of a replay: other bounds, or another classifier, with a name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast

from weir.router.case import Bounds, Case

MAX_SWEEP = 101
TargetKind = Literal["quality", "cost", "latency"]
_KINDS = ("quality", "cost", "latency")
Change = Callable[[Bounds], Bounds]


class ScenarioError(ValueError):
    """A question that cannot be asked; the message says how it is written."""


@dataclass(frozen=True, slots=True)
class Target:
    """What to hold: a share of right answers, USD per query, or milliseconds of p95 to the first token."""

    kind: TargetKind
    value: float

    def __str__(self) -> str:
        return f"{self.kind}={self.value:g}"


@dataclass(frozen=True, slots=True)
class Scenario:
    """Bounds, or cases, other than those that were in force. ``cases`` replaces the recorded ones."""

    name: str
    change: Change
    cases: Sequence[Case] | None = None
    note: str = ""


def as_recorded() -> Scenario:
    """Return the bounds that were in force at each decision."""
    return Scenario("bounds as recorded", lambda bounds: bounds)


def under(scenario: Scenario, cases: Sequence[Case], classifier: str) -> Scenario:
    """Return the scenario with another classifier's cases."""
    return replace(scenario, name=f"{scenario.name}, {classifier}", cases=cases)


def thresholds(complexity: float | None, confidence: float | None) -> Scenario:
    """Return the plain mode with other thresholds; the one not given stays as recorded."""
    parts = [f"threshold {complexity:g}"] if complexity is not None else []
    parts += [f"confidence {confidence:g}"] if confidence is not None else []

    def change(bounds: Bounds) -> Bounds:
        return replace(
            bounds,
            mode="thresholds",
            complexity=bounds.complexity if complexity is None else complexity,
            confidence=bounds.confidence if confidence is None else confidence,
        )

    return Scenario(", ".join(parts), change)


def at_bar(target: Target, bar: float, note: str = "") -> Scenario:
    """Return the mode that holds ``target``, with the bar that it has come to (see ``Bounds.quality``)."""
    return Scenario(str(target), lambda bounds: replace(bounds, mode=target.kind, quality=bar), note=note)


def parse_target(text: str) -> Target:
    """Read ``quality=0.9``, ``cost=0.002`` or ``latency=300``. Raises ScenarioError."""
    kind, _, number = text.partition("=")
    value = _number(number, f"'{text}' is no target")
    if kind not in _KINDS or value <= 0 or (kind == "quality" and value > 1):
        raise ScenarioError(f"'{text}' is no target; write {_TARGETS}.")
    return Target(cast(TargetKind, kind), value)


def parse_sweep(text: str) -> list[float]:
    """Read ``0.4:0.9:0.05``: from, to (included) and step of the threshold. Raises ScenarioError."""
    parts = text.split(":")
    if len(parts) != 3:
        raise ScenarioError(f"'{text}' is no sweep; write FROM:TO:STEP, such as 0.4:0.9:0.05.")
    start, stop, step = (_number(part, f"'{text}' is no sweep") for part in parts)
    if not (0 <= start <= stop <= 1 and step > 0):
        raise ScenarioError(f"'{text}': a sweep goes up from FROM to TO, both between 0 and 1.")
    count = int((stop - start) / step + 1e-9) + 1
    if count > MAX_SWEEP:
        raise ScenarioError(f"'{text}' makes {count} thresholds; at most {MAX_SWEEP} are compared at once.")
    return [round(start + index * step, 10) for index in range(count)]


_TARGETS = "quality=0.9 (share of right answers), cost=0.002 (USD per query) or latency=300 (p95, ms)"


def _number(text: str, what: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ScenarioError(f"{what}: '{text}' is no number; write {_TARGETS}.") from None
    if value != value or value in (float("inf"), float("-inf")):
        raise ScenarioError(f"{what}: a finite number is needed.")
    return value
