"""What the answers cost against what the frontier alone would have: summed up from the receipts."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import astuple
from datetime import UTC, datetime

from weir.router.receipts.chain import decode
from weir.router.receipts.database import Database, Filter, Stored
from weir.router.receipts.records import OutcomeRecord
from weir.spending.report import Saved, Wanted


class Savings:
    """Sums of finished answers, by the day of the decision, tenant and tier.

    Answers that broke off are left out: what the frontier would have charged for them nobody knows.
    ``max_open`` decisions wait for their outcome; those that never get one make room.
    """

    def __init__(self, max_open: int = 50_000) -> None:
        self._after, self._max_open = 0, max_open
        self._open: OrderedDict[str, tuple[str, str]] = OrderedDict()
        self._sums: dict[tuple[str, str, str], Saved] = {}

    def read(self, database: Database) -> None:
        """Add the receipts that came since the last time. Raises DatabaseDownError."""
        while page := database.page(self._after, Filter()):
            for stored in page:
                self._take(stored)
            self._after = page[-1].link.sequence

    def rows(self, wanted: Wanted) -> list[Saved]:
        """Return the sums, ordered by day, tenant and tier."""
        found: dict[tuple[str, str, str], Saved] = {}
        for row in filter(wanted.takes, self._sums.values()):
            _add(found, Saved(row.day if wanted.by_day else "", *astuple(row)[1:]))
        return [found[key] for key in sorted(found)]

    def _take(self, stored: Stored) -> None:
        row = stored.row
        if row.kind == "decision":
            day = datetime.fromtimestamp(row.at, UTC).date().isoformat()
            self._open[row.decision_id] = (day, row.tenant)
            if len(self._open) > self._max_open:
                self._open.popitem(last=False)
        elif row.kind == "outcome" and (decided := self._open.pop(row.decision_id, None)):
            outcome = decode(row.body)
            if isinstance(outcome, OutcomeRecord) and outcome.outcome == "finished":
                _add(self._sums, _saved(*decided, outcome))


def _saved(day: str, tenant: str, outcome: OutcomeRecord) -> Saved:
    return Saved(
        day,
        tenant,
        outcome.answered_by,
        1,
        outcome.completion_tokens,
        outcome.cost_usd,
        outcome.frontier_cost_usd,
    )


def _add(sums: dict[tuple[str, str, str], Saved], row: Saved) -> None:
    key = (row.day, row.tenant, row.tier)
    held = sums.get(key, Saved(*key))
    sums[key] = Saved(
        *key,
        held.answers + row.answers,
        held.completion_tokens + row.completion_tokens,
        held.cost_usd + row.cost_usd,
        held.frontier_cost_usd + row.frontier_cost_usd,
    )
