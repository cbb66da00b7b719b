"""The receipts as the router sees them: note decisions and outcomes, take labels, look things up."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from functools import partial

from weir.common.config.model import Receipts, State
from weir.common.errors import ErrorCode, WeirError
from weir.common.state import state_directory
from weir.router.domain import Decision, Facts
from weir.router.receipts import convert
from weir.router.receipts.chain import decode
from weir.router.receipts.convert import Feedback, Outcome
from weir.router.receipts.database import Database, Filter, Stored, row
from weir.router.receipts.records import DecisionRecord, FeedbackRecord, OutcomeRecord, Receipt
from weir.router.receipts.sqlite import FILE_NAME, SqliteDatabase
from weir.router.receipts.writer import Writer

# About what a record takes in memory while it waits, without a prompt; and a character of a prompt at most.
RECORD_BYTES, CHARACTER_BYTES = 2_000, 4


@dataclass(frozen=True, slots=True)
class Story:
    """A decision and what became of it."""

    decision: DecisionRecord
    outcome: OutcomeRecord | None
    feedback: tuple[FeedbackRecord, ...]


class ReceiptStore:
    """A component; ``record`` and ``finish`` never wait, and what they cannot keep never stops a request."""

    def __init__(
        self, database: Database, settings: Receipts, clock: Callable[[], float] = time.time
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._writer = Writer(database, settings.max_decisions)

    @property
    def keeps_prompts(self) -> bool:
        """Whether ``record`` has a use for prompts."""
        return self._settings.store_prompts

    @property
    def dropped(self) -> int:
        """How many records were lost since the start because too many waited."""
        return self._writer.dropped

    async def start(self) -> None:
        """Open the database. Raises WeirError INTERNAL where the set-up is at fault."""
        await self._writer.start()

    async def aclose(self) -> None:
        """Write what is pending and close; idempotent."""
        await self._writer.aclose()

    def record(
        self,
        decision: Decision,
        facts: Facts,
        *,
        request_id: str,
        tenant: str,
        prompt: str | None = None,
        generated: bool = True,
    ) -> None:
        """Note a decision. ``prompt`` is kept only where the settings and the request allow it."""
        kept = prompt if self._settings.store_prompts and not facts.policy.no_store else None
        make = partial(
            convert.decision_record,
            decision,
            facts,
            request_id=request_id,
            tenant=tenant,
            at=self._clock(),
            prompt=kept,
            generated=generated,
        )
        self._writer.post(make, RECORD_BYTES + CHARACTER_BYTES * len(kept or ""))

    def finish(self, decision_id: str, outcome: Outcome) -> None:
        """Note how a decision's answer ended."""
        make = partial(convert.outcome_record, decision_id, outcome, at=self._clock())
        self._writer.post(make, RECORD_BYTES)

    async def label(self, decision_id: str, feedback: Feedback, *, tenant: str) -> DecisionRecord:
        """Store a tenant's label, and return what it labels.

        The comment is dropped where the request allowed nothing to be stored.

        Raises:
            WeirError: UNKNOWN_DECISION where the tenant has no such decision, or it is no longer kept.
        """
        at = self._clock()

        def work(database: Database) -> DecisionRecord:
            known = story(database.of_decision(decision_id), tenant)
            if known is None:
                raise WeirError(
                    ErrorCode.UNKNOWN_DECISION, fields={"decision_id": "unknown, or no longer kept"}
                )
            database.append([row(convert.feedback_record(known.decision, feedback, at=at))])
            return known.decision

        return await self._writer.ask(work)

    async def find(self, decision_id: str, *, tenant: str | None = None) -> Story | None:
        """Return a decision (of the tenant, where one is given); ``None`` where it is not kept."""
        return await self._writer.ask(lambda database: story(database.of_decision(decision_id), tenant))

    async def read(
        self, since: float | None = None, until: float | None = None, tenant: str | None = None
    ) -> AsyncIterator[Receipt]:
        """Yield, in order, the receipts of the decisions made from ``since`` to before ``until`` (Unix s)."""
        only, after = Filter(since, until, tenant), 0
        while page := await self._writer.ask(partial(_page, after, only)):
            for stored in page:
                yield receipt(stored)
            after = page[-1].link.sequence


def database_of(settings: State) -> Database:
    """Return the configured database, not yet open. Raises WeirError where its driver is not installed."""
    if settings.receipts.postgres_env:
        from weir.router.receipts.postgres import PostgresDatabase

        return PostgresDatabase(settings.receipts.postgres_env)
    return SqliteDatabase(state_directory(settings) / FILE_NAME)


def story(found: Sequence[Stored], tenant: str | None = None) -> Story | None:
    """Put a decision's receipts together; ``None`` where the decision is missing or another tenant's."""
    records = [decode(stored.row.body) for stored in found]
    decision = next((record for record in records if isinstance(record, DecisionRecord)), None)
    if decision is None or tenant not in (None, decision.tenant):
        return None
    outcomes = [record for record in records if isinstance(record, OutcomeRecord)]
    labels = tuple(record for record in records if isinstance(record, FeedbackRecord))
    return Story(decision, outcomes[-1] if outcomes else None, labels)


def receipt(stored: Stored) -> Receipt:
    """Return what is stored as others read it."""
    return Receipt(stored.link.sequence, stored.link.hash.hex(), decode(stored.row.body))


def _page(after: int, only: Filter, database: Database) -> list[Stored]:
    return database.page(after, only)
