"""What the store needs of a database; blocking, used by one thread at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Protocol

import msgspec

from weir.router.receipts.chain import Link, UnkeepableError, Verdict, decode, encode, verify
from weir.router.receipts.records import DecisionRecord, Record

PAGE = 500


class DatabaseDownError(Exception):
    """The database cannot be used at present; the same may work later. Its text is for the log alone."""


@dataclass(frozen=True, slots=True)
class Row:
    """A record's bytes, and what it is found by: copies that ``check`` compares with the record."""

    body: bytes
    kind: str
    decision_id: str
    tenant: str
    at: float


@dataclass(frozen=True, slots=True)
class Stored:
    """A row in its place of the chain."""

    link: Link
    row: Row


@dataclass(frozen=True, slots=True)
class Filter:
    """Receipts of the decisions made from ``since`` to before ``until`` (Unix seconds), of one tenant."""

    since: float | None = None
    until: float | None = None
    tenant: str | None = None

    @property
    def all(self) -> bool:
        """Whether nothing is left out."""
        return self == Filter()


class Database(Protocol):
    """One chain of receipts, to which several writers may append in turn.

    Every method raises DatabaseDownError and leaves the chain as it was.
    """

    def open(self, *, create: bool = True) -> None:
        """Connect; create the tables where missing, unless only to read.

        Raises WeirError where the set-up is at fault.
        """
        ...

    def close(self) -> None:
        """Disconnect; idempotent."""
        ...

    def append(self, rows: Sequence[Row]) -> Link:
        """Add the rows in one transaction; return the new head."""
        ...

    def of_decision(self, decision_id: str) -> list[Stored]:
        """Return a decision's receipts in their order."""
        ...

    def page(self, after: int, only: Filter) -> list[Stored]:
        """Return up to ``PAGE`` receipts of a higher sequence, in their order."""
        ...

    def anchor(self) -> Link:
        """Return the link before the oldest receipt."""
        ...

    def prune(self, keep: int) -> int:
        """Delete what is older than the last ``keep`` decisions, not all of much at once; return how many."""
        ...

    def snapshot(self) -> AbstractContextManager[None]:
        """Hold what is read at one moment."""
        ...


def walk(database: Database, only: Filter | None = None) -> Iterator[Stored]:
    """Yield the receipts in their order, a page at a time."""
    after = 0
    while page := database.page(after, only or Filter()):
        yield from page
        after = page[-1].link.sequence


def row(record: Record) -> Row:
    """Return the row of a record. Raises UnkeepableError."""
    made = _row(encode(record), record)
    if "\0" in made.decision_id + made.tenant:
        raise UnkeepableError("an identifier has a zero byte, which PostgreSQL cannot store")
    return made


def check(database: Database, noted: Link | bytes | None = None) -> Verdict:
    """Verify the whole chain as it is at one moment; see ``chain.verify``."""
    misfiled: list[int] = []
    with database.snapshot():
        verdict = verify(_links(walk(database), misfiled), database.anchor(), noted)
    if misfiled and (verdict.broken is None or misfiled[0] < verdict.broken):
        return replace(verdict, broken=misfiled[0], problem="is filed under other values than its record has")
    return verdict


def _links(receipts: Iterator[Stored], misfiled: list[int]) -> Iterator[tuple[Link, bytes]]:
    for receipt in receipts:
        if not misfiled and not _well_filed(receipt.row):
            misfiled.append(receipt.link.sequence)
        yield receipt.link, receipt.row.body


def _well_filed(found: Row) -> bool:
    try:
        return found == _row(found.body, decode(found.body))
    except msgspec.MsgspecError:
        return False


def _row(body: bytes, record: Record) -> Row:
    tenant = record.tenant if isinstance(record, DecisionRecord) else ""
    kind = str(record.__struct_config__.tag)
    return Row(body, kind, record.decision_id, tenant, record.at)
