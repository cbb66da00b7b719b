"""What was spent, what is left of the budgets, and what was saved: as the command and the page tell it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any


@dataclass(frozen=True, slots=True)
class Saved:
    """Finished answers of a tier; ``day`` is ISO 8601 (UTC), empty for all days together."""

    day: str
    tenant: str
    tier: str
    answers: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0
    frontier_cost_usd: float = 0.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to tell: of one tenant, ``None`` for all; of days (UTC), inclusive, which need ``by_day``; a row
    for each day or one for all time."""

    tenant: str | None = None
    by_day: bool = False
    first: date | None = None
    last: date | None = None

    def takes(self, row: Saved) -> bool:
        """Whether a row of one day is wanted."""
        return (
            self.tenant in (None, row.tenant)
            and (self.first is None or row.day >= self.first.isoformat())
            and (self.last is None or row.day <= self.last.isoformat())
        )


@dataclass(frozen=True, slots=True)
class Spent:
    """Spending of a tenant on a model; ``day`` is ISO 8601 (UTC), empty for all time."""

    day: str
    tenant: str
    provider: str
    model: str
    attempts: int
    prompt_tokens: int
    cached_prompt_tokens: int
    cache_write_tokens: int
    completion_tokens: int
    reasoning_tokens: int
    settled_usd: float
    reserved_usd: float
    replay: bool


@dataclass(frozen=True, slots=True)
class Budget:
    """A budget in its present period; ``tenant`` is "*" for all together, ``resets_at`` is Unix seconds."""

    tenant: str
    model: str
    period: str
    limit_usd: float
    committed_usd: float
    left_usd: float
    resets_at: float | None


@dataclass(frozen=True, slots=True)
class ModelState:
    """A model on offer; ``circuit`` is "closed", "open" or "half_open"."""

    model: str
    provider: str
    input_usd_per_million: float
    output_usd_per_million: float
    available: bool
    circuit: str
    stand_in: bool
    replay: bool


@dataclass(frozen=True, slots=True)
class Report:
    """All of it. ``savings`` is ``None`` where no receipts can be read here."""

    spend: tuple[Spent, ...]
    budgets: tuple[Budget, ...]
    models: tuple[ModelState, ...]
    savings: tuple[Saved, ...] | None = None

    def record(self) -> dict[str, Any]:
        """Return everything, ready for JSON, with the sums."""
        return {
            **asdict(self),
            "settled_usd": sum(row.settled_usd for row in self.spend),
            "reserved_usd": sum(row.reserved_usd for row in self.spend),
            "saved": None if self.savings is None else asdict(total_saved(self.savings)),
        }


@dataclass(frozen=True, slots=True)
class TotalSaved:
    """All finished answers together; ``local`` counts those that no frontier model gave."""

    answers: int
    local: int
    cost_usd: float
    frontier_cost_usd: float
    saved_usd: float


def total_saved(savings: Sequence[Saved]) -> TotalSaved:
    """Sum up what was saved."""
    cost = sum(row.cost_usd for row in savings)
    alone = sum(row.frontier_cost_usd for row in savings)
    answers = sum(row.answers for row in savings)
    local = sum(row.answers for row in savings if row.tier != "frontier")
    return TotalSaved(answers, local, cost, alone, alone - cost)
