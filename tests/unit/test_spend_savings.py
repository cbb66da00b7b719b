"""What was saved, out of the receipts: which answers count, for whom and when."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import msgspec
import pytest

from tests.receipts_samples import FACTS
from tests.receipts_samples import decision as decision_of
from weir.common.config.model import State
from weir.router.receipts.convert import decision_record
from weir.router.receipts.database import Database, row
from weir.router.receipts.records import OutcomeRecord, Record
from weir.router.receipts.savings import Savings
from weir.router.receipts.sqlite import FILE_NAME, SqliteDatabase
from weir.spending.receipts import Receipts
from weir.spending.report import Saved, Wanted, total_saved

DAY = 86_400
# 2026-01-01T00:00:00Z
START = 1_767_225_600.0


@pytest.fixture
def database(tmp_path: Path) -> Database:
    database = SqliteDatabase(tmp_path / FILE_NAME)
    database.open()
    return database


def answered(number: int, at: float, tier: str, cost: float, alone: float, tenant: str = "") -> list[Record]:
    return [*decided(number, at, tenant), ended(number, at + 1, tier, cost, alone)]


def decided(number: int, at: float, tenant: str = "") -> list[Record]:
    made = decision_of(number)
    return [
        decision_record(
            made, FACTS, request_id=f"q{number}", tenant=tenant, at=at, prompt=None, generated=True
        )
    ]


def ended(number: int, at: float, tier: str, cost: float, alone: float) -> OutcomeRecord:
    return OutcomeRecord(f"d{number}", at, "finished", tier, 10, cost, alone)


def keep(database: Database, *records: Sequence[Record]) -> None:
    database.append([row(record) for group in records for record in group])


def read(database: Database, wanted: Wanted | None = None) -> list[Saved]:
    savings = Savings()
    savings.read(database)
    return savings.rows(wanted or Wanted())


def test_answers_are_summed_up_by_tenant_and_tier(database: Database) -> None:
    keep(
        database,
        answered(1, START, "slm", 0.0, 0.25, "acme"),
        answered(2, START, "slm", 0.0, 0.5, "acme"),
        answered(3, START, "frontier", 0.5, 0.25, "acme"),
        answered(4, START, "hybrid", 0.125, 0.5),
    )
    assert read(database) == [
        Saved("", "", "hybrid", 1, 10, 0.125, 0.5),
        Saved("", "acme", "frontier", 1, 10, 0.5, 0.25),
        Saved("", "acme", "slm", 2, 20, 0.0, 0.75),
    ]


def test_the_total_tells_what_stayed_local_and_what_was_saved() -> None:
    total = total_saved([Saved("", "", "slm", 3, 30, 0.0, 0.75), Saved("", "", "frontier", 1, 10, 0.5, 0.25)])
    assert (total.answers, total.local, total.cost_usd, total.frontier_cost_usd) == (4, 3, 0.5, 1.0)
    assert total.saved_usd == 0.5


def test_an_answer_belongs_to_the_day_of_its_decision(database: Database) -> None:
    keep(
        database,
        answered(1, START + DAY - 0.5, "slm", 0.0, 0.25),
        answered(2, START + DAY, "slm", 0.0, 0.25),
        answered(3, START + 2 * DAY, "slm", 0.0, 0.25),
    )
    days = [saved.day for saved in read(database, Wanted(by_day=True))]
    assert days == ["2026-01-01", "2026-01-02", "2026-01-03"]
    only = Wanted(by_day=True, first=date(2026, 1, 2), last=date(2026, 1, 2))
    assert [saved.day for saved in read(database, only)] == ["2026-01-02"]


def test_one_tenant_alone_can_be_asked_for(database: Database) -> None:
    keep(
        database,
        answered(1, START, "slm", 0.0, 0.25, "acme"),
        answered(2, START, "slm", 0.0, 0.5, "other"),
        answered(3, START, "slm", 0.0, 1.0),
    )
    assert [saved.frontier_cost_usd for saved in read(database, Wanted("acme"))] == [0.25]
    assert [saved.frontier_cost_usd for saved in read(database, Wanted(""))] == [1.0]


def test_what_broke_off_is_left_out(database: Database) -> None:
    broken = msgspec.structs.replace(ended(1, START, "frontier", 0.5, 0.0), outcome="cancelled")
    keep(database, [*decided(1, START), broken], decided(2, START))
    assert read(database) == []


def test_reading_on_adds_what_came_since(database: Database) -> None:
    savings = Savings()
    keep(database, answered(1, START, "slm", 0.0, 0.25), decided(2, START))
    savings.read(database)
    savings.read(database)
    assert [saved.answers for saved in savings.rows(Wanted())] == [1]
    keep(database, [ended(2, START + 5, "slm", 0.0, 0.5)], answered(3, START, "slm", 0.0, 0.25))
    savings.read(database)
    assert savings.rows(Wanted()) == [Saved("", "", "slm", 3, 30, 0.0, 1.0)]


def test_decisions_without_an_outcome_make_room(database: Database) -> None:
    savings = Savings(max_open=2)
    keep(database, decided(1, START), decided(2, START), decided(3, START))
    savings.read(database)
    keep(database, *([ended(number, START, "slm", 0.0, 0.25)] for number in (1, 2, 3)))
    savings.read(database)
    assert [saved.answers for saved in savings.rows(Wanted())] == [2]


def test_without_receipts_nothing_is_known_and_nothing_made(tmp_path: Path) -> None:
    assert asyncio.run(Receipts(State(directory=tmp_path)).rows(Wanted())) is None
    assert list(tmp_path.iterdir()) == []


async def test_receipts_that_cannot_be_read_are_as_good_as_none(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"no database at all " * 100)
    assert await Receipts(State(directory=tmp_path)).rows(Wanted()) is None


async def test_the_configured_receipts_are_read(tmp_path: Path, database: Database) -> None:
    keep(database, answered(1, START, "slm", 0.0, 0.25))
    receipts = Receipts(State(directory=tmp_path))
    assert await receipts.rows(Wanted()) == await receipts.rows(Wanted()) == read(database)
