"""The ledger adds up, never lets a budget be passed, and settles each reservation once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.postgres_server import PostgresServer
from tests.unit.ledger_bench import (
    DATABASES,
    NOW,
    Clock,
    Connect,
    charge,
    connector,
    refused,
    running,
    spend_at_once,
    spent,
)
from weir.common.errors import ErrorCode, WeirError
from weir.frontier_proxy.domain import NANO, TokenCounts
from weir.frontier_proxy.ledger import statements
from weir.frontier_proxy.ledger.base import BudgetRule, Reservation, SpendQuery, SpendRow
from weir.frontier_proxy.ledger.database import Database
from weir.frontier_proxy.ledger.grouped import GroupedLedger
from weir.frontier_proxy.ledger.postgres import PostgresDatabase
from weir.frontier_proxy.ledger.sqlite import SqliteDatabase

TODAY = NOW.date()
ACME = BudgetRule("acme", None, "total", 1000)
RULES = (
    ACME,
    BudgetRule(None, None, "day", 1500),
    BudgetRule(None, "gpt", "month", 1200),
    BudgetRule("*", None, "month", 2000),
    BudgetRule("", None, "day", 50),
)
COUNTS = TokenCounts(prompt=10, completion=5, cached=4, cache_write=3, reasoning=2)


@pytest.fixture(params=DATABASES)
def connect(request: pytest.FixtureRequest, tmp_path: Path) -> Connect:
    return connector(request, tmp_path)


async def test_what_is_settled_replaces_what_was_reserved_with_every_class_of_tokens(
    connect: Connect,
) -> None:
    async with running(connect()) as ledger:
        reservation = await ledger.reserve(charge(100))
        assert await ledger.spend(SpendQuery()) == [SpendRow("acme", "openai", "gpt", None, 0, 100)]
        await ledger.settle(reservation, COUNTS, 40)
        settled = SpendRow("acme", "openai", "gpt", None, 40, 0, 1, COUNTS)
        assert await ledger.spend(SpendQuery()) == [settled]


async def test_the_sum_of_the_days_is_the_sum_of_all_time(connect: Connect) -> None:
    clock = Clock()
    async with running(connect(), clock=clock) as ledger:
        for tenant in ("acme", "zeta", "acme"):
            await spend_at_once(ledger, charge(10, tenant), 7, COUNTS)
            clock.move(minutes=1)
        days = await ledger.spend(SpendQuery(by_day=True))
        all_time = await ledger.spend(SpendQuery())
    assert [(row.day, row.tenant, row.settled_nano) for row in days] == [
        (TODAY, "acme", 7),
        (date(2026, 12, 1), "acme", 7),
        (date(2026, 12, 1), "zeta", 7),
    ]
    assert [(row.tenant, row.settled_nano, row.counts.reasoning) for row in all_time] == [
        ("acme", 14, 4),
        ("zeta", 7, 2),
    ]


async def test_days_and_tenants_are_chosen(connect: Connect) -> None:
    clock = Clock()
    async with running(connect(), clock=clock) as ledger:
        for day, tenant in enumerate(("acme", "acme", "zeta", "acme"), 1):
            await spend_at_once(ledger, charge(10, tenant), day)
            clock.move(days=1)
        query = SpendQuery("acme", by_day=True, first=date(2026, 12, 1), last=date(2026, 12, 2))
        assert [(row.day, row.settled_nano) for row in await ledger.spend(query)] == [(date(2026, 12, 1), 2)]


async def test_of_200_reservations_at_once_only_those_that_fit_succeed(connect: Connect) -> None:
    async with running(connect(), [ACME]) as ledger:
        tries = await asyncio.gather(
            *(ledger.reserve(charge(30)) for _ in range(200)), return_exceptions=True
        )
        granted = [result for result in tries if isinstance(result, Reservation)]
        codes = Counter(result.code for result in tries if isinstance(result, WeirError))
        assert len(granted) == 33
        assert codes == {ErrorCode.BUDGET_EXHAUSTED: 167}
        await asyncio.gather(*(ledger.settle(reservation, COUNTS, 1) for reservation in granted))
        assert await spent(ledger) == (33, 0)


async def test_two_proxies_at_once_pass_no_budget_together(connect: Connect) -> None:
    async with running(connect(), [ACME]) as one, running(connect(), [ACME]) as other:
        tries = await asyncio.gather(
            *(ledger.reserve(charge(30)) for _ in range(50) for ledger in (one, other)),
            return_exceptions=True,
        )
        granted = sum(isinstance(result, Reservation) for result in tries)
        assert granted == 33
        assert await spent(other) == (0, 990)


async def test_reservations_at_once_fill_a_budget_to_its_last_nano_and_no_further(connect: Connect) -> None:
    rules = [BudgetRule("*", None, "day", 100), BudgetRule(None, "gpt", "day", 90)]
    async with running(connect(), rules) as ledger:
        await asyncio.gather(*(ledger.reserve(charge(nano)) for nano in (40, 50)))
        assert (await refused(ledger, charge(1))).metadata["budget_model"] == "gpt"
        tries = await asyncio.gather(
            *(ledger.reserve(charge(nano, "zeta")) for nano in (11, 10, 1)), return_exceptions=True
        )
        assert [isinstance(result, Reservation) for result in tries] == [False, True, False]
        assert await spent(ledger) == (0, 100)


async def test_settling_twice_changes_nothing(connect: Connect) -> None:
    async with running(connect()) as ledger:
        reservation = await ledger.reserve(charge(100))
        await asyncio.gather(*(ledger.settle(reservation, COUNTS, 40) for _ in range(2)))
        await ledger.settle(reservation, COUNTS, 40)
        (row,) = await ledger.spend(SpendQuery())
    assert (row.settled_nano, row.reserved_nano, row.attempts) == (40, 0, 1)


async def test_a_reservation_whose_caller_is_cancelled_sets_nothing_aside(connect: Connect) -> None:
    async with running(connect(), [ACME]) as ledger:
        for turns in range(4):
            task = asyncio.create_task(ledger.reserve(charge(900)))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await spent(ledger) == (0, 0)
        assert await ledger.spend(SpendQuery()) == []


async def test_a_settlement_whose_caller_is_cancelled_is_written(connect: Connect) -> None:
    async with running(connect()) as ledger:
        reservation = await ledger.reserve(charge(100))
        task = asyncio.create_task(ledger.settle(reservation, COUNTS, 40))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await spent(ledger) == (40, 0)


async def test_what_is_begun_is_written_before_it_is_closed(connect: Connect) -> None:
    async with running(connect()) as ledger:
        reservation = await ledger.reserve(charge(100))
        settling = asyncio.create_task(ledger.settle(reservation, COUNTS, 40))
        await asyncio.sleep(0)
    await settling
    async with running(connect()) as ledger:
        assert await spent(ledger) == (40, 0)
    with pytest.raises(WeirError, match=ErrorCode.SHUTTING_DOWN):
        await ledger.reserve(charge(1))


async def test_a_day_s_budget_begins_anew_at_midnight_and_a_month_s_on_the_first(connect: Connect) -> None:
    clock = Clock(datetime(2026, 11, 29, 12, tzinfo=UTC))
    rules = [BudgetRule("acme", None, "day", 100), BudgetRule(None, "gpt", "month", 150)]
    async with running(connect(), rules, clock) as ledger:
        await spend_at_once(ledger, charge(100), 100)
        assert (await refused(ledger, charge(1))).metadata["budget_period"] == "day"
        clock.move(days=1)
        assert (await refused(ledger, charge(51))).metadata["budget_resets_at"] == "2026-12-01T00:00:00+00:00"
        await spend_at_once(ledger, charge(100, model="claude"), 100)
        clock.move(days=1)
        await spend_at_once(ledger, charge(100), 100)


async def test_a_reservation_belongs_to_the_day_on_which_it_was_made(connect: Connect) -> None:
    clock = Clock()
    async with running(connect(), [BudgetRule("acme", None, "day", 100)], clock) as ledger:
        reservation = await ledger.reserve(charge(100))
        clock.move(minutes=2)
        await ledger.reserve(charge(100))
        await ledger.settle(reservation, COUNTS, 60)
        days = await ledger.spend(SpendQuery(by_day=True))
        assert [(row.day, row.settled_nano, row.reserved_nano) for row in days] == [
            (TODAY, 60, 0),
            (date(2026, 12, 1), 0, 100),
        ]


async def test_a_clock_that_is_set_back_frees_no_budget(connect: Connect) -> None:
    clock = Clock()
    async with running(connect(), [BudgetRule("acme", None, "day", 100)], clock) as ledger:
        await spend_at_once(ledger, charge(80), 80)
        clock.move(minutes=2)
        reservation = await ledger.reserve(charge(90))
        clock.move(minutes=-2)
        await refused(ledger, charge(21))
        await ledger.settle(reservation, COUNTS, 90)
        clock.move(minutes=2)
        await refused(ledger, charge(11))
        assert await spent(ledger) == (170, 0)


async def test_a_budget_that_is_configured_later_knows_what_was_spent_before(connect: Connect) -> None:
    async with running(connect()) as ledger:
        await spend_at_once(ledger, charge(80), 80)
    rules = [BudgetRule(None, "gpt", "month", 100), BudgetRule("*", None, "total", 1000)]
    async with running(connect(), rules) as ledger:
        await refused(ledger, charge(21))
        assert [state.committed_nano for state in await ledger.budgets(None)] == [80, 80]


async def test_a_tenant_sees_its_own_budgets_and_not_what_all_spend(connect: Connect) -> None:
    async with running(connect(), RULES) as ledger:
        await spend_at_once(ledger, charge(100), 60)
        await ledger.reserve(charge(30, "zeta", "claude"))
        own = await ledger.budgets("acme")
        everything = await ledger.budgets(None)
    assert [(b.tenant, b.model, b.period, b.committed_nano) for b in own] == [
        ("acme", "", "day", 60),
        ("acme", "gpt", "month", 60),
        ("acme", "", "total", 60),
    ]
    assert [(b.tenant, b.committed_nano) for b in everything if b.period == "month" and not b.model] == [
        ("*", 90)
    ]
    assert {b.tenant for b in everything} == {"*", "", "acme", "zeta"}
    assert {b.resets_at for b in everything} == {None, datetime(2026, 12, 1, tzinfo=UTC)}


async def test_a_budget_of_all_together_is_refused_without_telling_amounts(connect: Connect) -> None:
    async with running(connect(), [BudgetRule("*", None, "month", 1000)]) as ledger:
        await spend_at_once(ledger, charge(900, "zeta"), 900)
        error = await refused(ledger, charge(200))
    assert "$" not in error.hint
    assert "zeta" not in str(error)


async def test_a_refusal_says_whose_budget_of_what_is_passed_and_until_when(connect: Connect) -> None:
    async with running(connect(), [BudgetRule(None, "gpt", "month", 2 * NANO)]) as ledger:
        await spend_at_once(ledger, charge(NANO), NANO)
        error = await refused(ledger, charge(3 * NANO))
    assert error.hint == (
        "Of the budget of $2 for tenant 'acme' this month on gpt $1 is free, and this request may cost $3."
    )
    assert error.metadata == {
        "tenant": "acme",
        "budget_period": "month",
        "budget_model": "gpt",
        "budget_resets_at": "2026-12-01T00:00:00+00:00",
    }


def test_no_statement_of_a_reservation_reads_through_history(tmp_path: Path) -> None:
    database = SqliteDatabase(tmp_path / "l.sqlite3")
    database.connect()
    database.create(statements.SCHEMA)
    for statement in (statements.COMMITTED, statements.PASSED, statements.CLOSE, statements.CLOSE_OPEN):
        plan = database.do_rows(f"EXPLAIN QUERY PLAN {statement}", [["1", 1]])
        assert any("SEARCH weir_ledger" in step[-1] for step in plan)
        assert not any("SCAN weir_ledger" in step[-1] for step in plan)
    database.leave()


@pytest.mark.parametrize("bad", ["a\0b", "a\ud800b", "x" * 10_000])
async def test_no_text_of_a_caller_stops_the_ledger(connect: Connect, bad: str) -> None:
    async with running(connect()) as ledger:
        reservation = charge(10, bad)
        await ledger.settle(await ledger.reserve(reservation), COUNTS, 5)
        assert await spent(ledger) == (5, 0)


async def test_no_count_of_a_provider_stops_the_ledger(connect: Connect) -> None:
    async with running(connect()) as ledger:
        await spend_at_once(ledger, charge(10), -5, TokenCounts(10**30, -1))
        (row,) = await ledger.spend(SpendQuery())
        assert (row.settled_nano, row.counts.completion) == (0, 0)
        assert row.counts.prompt > 0
        with pytest.raises(WeirError, match=ErrorCode.COST_LIMIT):
            await ledger.reserve(charge(10**30))


# Operations: reserve (tenant, model, nano), or settle one of what is reserved (which, share).
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(
            st.sampled_from(["acme", "", "free"]), st.sampled_from(["gpt", "claude"]), st.integers(0, 600)
        ),
        st.tuples(st.integers(0, 20), st.floats(0, 1)),
    ),
    max_size=25,
)


class Model:
    """What a ledger should say: everything that was granted and settled, in plain lists."""

    def __init__(self, rules: Sequence[BudgetRule]) -> None:
        self._rules = rules
        self.held: list[Reservation] = []
        self.settled: list[tuple[Reservation, int]] = []

    def committed(self, rule: BudgetRule, tenant: str) -> int:
        amounts = [(r, r.charge.nano) for r in self.held] + self.settled
        return sum(
            nano
            for reservation, nano in amounts
            if rule.tenant == "*" or reservation.charge.tenant == tenant
            if rule.model in (None, reservation.charge.model)
        )

    def fits(self, tenant: str, model: str, nano: int) -> bool:
        over = [r for r in self._rules if r.tenant in (None, "*", tenant) and r.model in (None, model)]
        return all(self.committed(rule, tenant) + nano <= rule.nano for rule in over)


async def play(ledger: GroupedLedger, operations: Sequence[tuple[Any, ...]]) -> None:
    model = Model(RULES)
    for operation in operations:
        if len(operation) == 3:
            tenant, name, nano = operation
            if model.fits(tenant, name, nano):
                model.held.append(await ledger.reserve(charge(nano, tenant, name)))
            else:
                await refused(ledger, charge(nano, tenant, name))
        elif model.held:
            reservation = model.held.pop(operation[0] % len(model.held))
            nano = int(reservation.charge.nano * operation[1])
            await ledger.settle(reservation, COUNTS, nano)
            model.settled.append((reservation, nano))
    states = await ledger.budgets(None)
    assert all(state.committed_nano <= state.limit_nano for state in states)
    assert [(s.committed_nano) for s in states if s.tenant == "*"] == [model.committed(RULES[3], "")]
    rows = await ledger.spend(SpendQuery())
    totals: Counter[tuple[str, str]] = Counter()
    for reservation, nano in model.settled:
        totals[reservation.charge.tenant, reservation.charge.model] += nano
    assert {(row.tenant, row.model): row.settled_nano for row in rows if row.settled_nano} == +totals
    assert sum(row.reserved_nano for row in rows) == sum(r.charge.nano for r in model.held)
    assert sum(row.attempts for row in rows) == len(model.settled)
    assert sum(row.counts.prompt for row in rows) == len(model.settled) * COUNTS.prompt


async def play_on(database: Database, operations: Sequence[tuple[Any, ...]]) -> None:
    async with running(database, RULES) as ledger:
        await play(ledger, operations)


@settings(max_examples=40, deadline=None)
@given(OPERATIONS)
def test_committed_never_passes_a_budget_and_everything_adds_up(
    tmp_path_factory: pytest.TempPathFactory, operations: list[tuple[Any, ...]]
) -> None:
    asyncio.run(play_on(SqliteDatabase(tmp_path_factory.mktemp("ledger") / "l.sqlite3"), operations))


class StepByStep(SqliteDatabase):
    """Writes every batch as one is written that is not as expected."""

    has_one_step = False


@settings(max_examples=15, deadline=None)
@given(OPERATIONS)
def test_the_same_holds_where_a_batch_takes_more_than_one_step(
    tmp_path_factory: pytest.TempPathFactory, operations: list[tuple[Any, ...]]
) -> None:
    asyncio.run(play_on(StepByStep(tmp_path_factory.mktemp("ledger") / "l.sqlite3"), operations))


@settings(max_examples=15, deadline=None)
@given(OPERATIONS)
def test_the_same_holds_in_postgresql(postgres: PostgresServer, operations: list[tuple[Any, ...]]) -> None:
    asyncio.run(play_on(PostgresDatabase("LEDGER_ADDRESS", postgres.empty()), operations))


@settings(max_examples=10, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 90), st.floats(0, 1)), min_size=200, max_size=200))
def test_of_200_requests_at_once_the_sum_of_settlements_is_the_total(
    tmp_path_factory: pytest.TempPathFactory, amounts: list[tuple[int, float]]
) -> None:
    async def one(ledger: GroupedLedger, nano: int, share: float) -> int:
        try:
            reservation = await ledger.reserve(charge(nano))
        except WeirError:
            return 0
        (state,) = await ledger.budgets("acme")
        assert state.committed_nano <= state.limit_nano
        await ledger.settle(reservation, COUNTS, int(nano * share))
        return int(nano * share)

    async def check() -> None:
        path = tmp_path_factory.mktemp("ledger") / "l.sqlite3"
        async with running(SqliteDatabase(path), [ACME]) as ledger:
            settled = await asyncio.gather(*(one(ledger, nano, share) for nano, share in amounts))
            assert await spent(ledger) == (sum(settled), 0)

    asyncio.run(check())
