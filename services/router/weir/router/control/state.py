"""The controller's state: small, immutable, and the same on all replicas that share it."""

from __future__ import annotations

import math
from dataclasses import replace as _replace
from typing import Literal

import msgspec

from weir.router.case import Bounds
from weir.router.domain import Tier

MOVES_KEPT = 16
Phase = Literal["holding", "relieving", "returning", "at_bound", "at_quality_floor", "waiting"]
Knob = Literal["complexity", "confidence", "quality"]
KNOBS: tuple[Knob, ...] = ("complexity", "confidence", "quality")


class Move(msgspec.Struct, frozen=True):
    """One change of one threshold; ``at`` is by the controller's clock."""

    at: float
    knob: Knob
    before: float
    after: float
    reason: str


class State(msgspec.Struct, frozen=True):
    """What the law carries from one decision to the next.

    Attributes:
        version: grows by one with every move.
        complexity, confidence, quality: the thresholds in force.
        moved_at: last move, by the controller's clock; ``failed_relief_at`` and ``failed_return_at`` when a
            search last found nothing better.
        integral, trim, trimmed_at: see ``trim``.
        slow_before: see ``Forecast``.
        avoided: tiers that fail or hand over too often.
        value: the metric as forecast at these bounds, ``None`` without answers.
    """

    complexity: float
    confidence: float
    quality: float
    version: int = 0
    moved_at: float = -math.inf
    failed_relief_at: float = -math.inf
    failed_return_at: float = -math.inf
    integral: float = 0.0
    trim: float = 0.0
    trimmed_at: float = -math.inf
    slow_before: dict[Tier, float] = {}
    avoided: frozenset[Tier] = frozenset()
    phase: Phase = "waiting"
    value: float | None = None
    moves: tuple[Move, ...] = ()

    @property
    def thresholds(self) -> tuple[float, float, float]:
        """The three in force."""
        return self.complexity, self.confidence, self.quality

    def bounds(self, home: Bounds) -> Bounds:
        """Return ``home`` with the thresholds in force."""
        return _replace(home, complexity=self.complexity, confidence=self.confidence, quality=self.quality)

    def moved(self, to: Bounds, now: float, phase: Phase, reason: str) -> State:
        """Return the state after a move."""
        steps = tuple(
            Move(now, knob, getattr(self, knob), getattr(to, knob), reason)
            for knob in KNOBS
            if getattr(to, knob) != getattr(self, knob)
        )
        return msgspec.structs.replace(
            self,
            complexity=to.complexity,
            confidence=to.confidence,
            quality=to.quality,
            version=self.version + 1,
            moved_at=now,
            phase=phase,
            moves=(steps + self.moves)[:MOVES_KEPT],
        )

    def shifted(self, by: float) -> State:
        """Return the same state by a clock that reads ``by`` seconds more."""
        return msgspec.structs.replace(
            self,
            moved_at=self.moved_at + by,
            failed_relief_at=self.failed_relief_at + by,
            failed_return_at=self.failed_return_at + by,
            trimmed_at=self.trimmed_at + by,
            moves=tuple(msgspec.structs.replace(move, at=move.at + by) for move in self.moves),
        )


def initial(home: Bounds) -> State:
    """Return the state before anything moved."""
    return State(home.complexity, home.confidence, home.quality)
