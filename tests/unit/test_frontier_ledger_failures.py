"""The ledger in trouble: crashes, full disks, servers that go, commits of which nobody hears."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest
import structlog

from tests.postgres_server import PostgresServer
from tests.unit.ledger_bench import (
    DATABASES,
    Connect,
    charge,
    connector,
    ledger,
    running,
    spend_at_once,
    spent,
)
from weir.common.errors import ErrorCode, WeirError
from weir.frontier_proxy.domain import TokenCounts
from weir.frontier_proxy.ledger import one_step, outbox, writing
from weir.frontier_proxy.ledger.base import BudgetRule, Charge, SpendQuery, SpendRow
from weir.frontier_proxy.ledger.grouped import GroupedLedger
from weir.frontier_proxy.ledger.postgres import PostgresDatabase
from weir.frontier_proxy.ledger.reports import Reports
from weir.frontier_proxy.ledger.sqlite import SqliteDatabase

COUNTS = TokenCounts(prompt=10, completion=5)
SOON_S = 20.0
# A proxy that tells each reservation of 1,000 and each settlement at 1, many of them at once.
PROXY = """
import asyncio, os, sys
from pathlib import Path
from tests.unit.ledger_bench import charge, ledger
from weir.frontier_proxy.domain import TokenCounts
from weir.frontier_proxy.ledger.postgres import PostgresDatabase
from weir.frontier_proxy.ledger.sqlite import SqliteDatabase

async def line(opened):
    while True:
        reservation = await opened.reserve(charge(1000))
        os.write(1, b"r")
        await opened.settle(reservation, TokenCounts(1), 1)
        os.write(1, b"s")

async def main(kind, where, lines):
    opened = ledger(SqliteDatabase(Path(where)) if kind == "sqlite" else PostgresDatabase("ADDRESS", where))
    await opened.start()
    await asyncio.gather(*(line(opened) for _ in range(int(lines))))

asyncio.run(main(*sys.argv[1:]))
"""
LINES = 50


@pytest.fixture(params=DATABASES)
def connect(request: pytest.FixtureRequest, tmp_path: Path) -> Connect:
    return connector(request, tmp_path)


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "RETRY_S", 0.01)
    monkeypatch.setattr(writing, "MAX_RETRY_S", 0.02)


class Watched(SqliteDatabase):
    """Tells of each transaction before it begins, and of each once it is written."""

    def before(self) -> None: ...

    def written(self) -> None: ...

    def _connect(self) -> sqlite3.Connection:
        return _WatchedConnection(self, super()._connect())  # type: ignore[return-value]


class _WatchedConnection:
    def __init__(self, owner: Watched, wire: sqlite3.Connection) -> None:
        self._owner, self._wire = owner, wire
        self.rollback, self.close = wire.rollback, wire.close

    def execute(self, statement: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        if statement.startswith(("BEGIN", one_step.WRITE)):
            self._owner.before()
        cursor = self._wire.execute(statement, values)
        if statement.startswith(one_step.WRITE):
            self._owner.written()
        return cursor

    def commit(self) -> None:
        self._wire.commit()
        self._owner.written()


def broken(text: str, code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError(text)
    error.sqlite_errorcode = code
    return error


class FullDisk(Watched):
    """A disk on which nothing can be written while it is `full`."""

    full = False

    def before(self) -> None:
        if self.full:
            raise broken("database or disk is full", sqlite3.SQLITE_FULL)


class Gated(Watched):
    """Stops in each transaction, once `shut`, until it is let on."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.shut, self.inside, self.on = False, threading.Event(), threading.Event()
        self.begun = 0

    def before(self) -> None:
        self.begun += 1
        if self.shut:
            self.inside.set()
            assert self.on.wait(SOON_S)


class Deaf(Watched):
    """Writes a transaction, and hears nothing of it, where it is told to `lose` one."""

    lose = False

    def written(self) -> None:
        if self.lose:
            self.lose = False
            raise broken("disk I/O error", sqlite3.SQLITE_IOERR)


async def unavailable(of: GroupedLedger, amount: Charge) -> WeirError:
    with pytest.raises(WeirError) as caught:
        await of.reserve(amount)
    assert caught.value.code is ErrorCode.LEDGER_UNAVAILABLE
    return caught.value


async def until_spent(of: GroupedLedger, expected: tuple[int, int]) -> None:
    """Wait until that is settled and reserved; the retries are the ledger's own."""
    deadline = time.monotonic() + SOON_S
    found: object = None
    while found != expected:
        assert time.monotonic() < deadline, f"{found} instead of {expected}"
        try:
            found = await spent(of)
        except WeirError as error:
            found = error.code
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("kind", DATABASES)
async def test_of_a_proxy_that_is_killed_every_settlement_stays_and_what_it_left_is_settled_in_full(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    where = str(tmp_path / "l.sqlite3") if kind == "sqlite" else request.getfixturevalue("postgres").empty()
    told = await asyncio.to_thread(kill_a_proxy, kind, where)
    database = SqliteDatabase(Path(where)) if kind == "sqlite" else PostgresDatabase("ADDRESS", where)
    again = ledger(database, [BudgetRule("acme", None, "total", 1)])
    with structlog.testing.capture_logs() as logs:
        await until_recovered(again)
    (row,) = await again.spend(SpendQuery())
    (budget,) = await again.budgets("acme")
    await again.aclose()
    settled, left = row.counts.prompt, row.attempts - row.counts.prompt
    assert told.count(b"s") <= settled <= told.count(b"s") + LINES
    assert told.count(b"r") <= row.attempts <= told.count(b"r") + LINES
    assert row.settled_nano == budget.committed_nano == settled + left * 1000
    recovered = [entry["count"] for entry in logs if entry["event"] == "reservations_recovered"]
    assert sum(recovered) == left


def kill_a_proxy(kind: str, where: str) -> bytes:
    """Kill a proxy amid its work; return what it told."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(Path.cwd()), *sys.path]))}
    command = [sys.executable, "-c", PROXY, kind, where, str(LINES)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as proxy:
        assert proxy.stdout is not None
        told = proxy.stdout.read(1000)
        proxy.kill()
        return told + proxy.stdout.read()


async def until_recovered(again: GroupedLedger) -> None:
    """Start, again where the server has not yet noticed that the client of its session is dead."""
    deadline = time.monotonic() + SOON_S
    await again.start()
    while (await spent(again))[1]:
        assert time.monotonic() < deadline
        await again.aclose()
        await again.start()


async def test_the_reservations_of_a_living_proxy_are_left_alone(connect: Connect) -> None:
    async with running(connect()) as one:
        reservation = await one.reserve(charge(300))
        async with running(connect()) as other:
            assert await spent(other) == (0, 300)
            await one.settle(reservation, COUNTS, 30)
            assert await spent(other) == (30, 0)


async def test_a_proxy_that_was_only_thought_dead_corrects_what_was_settled_for_it(
    postgres: PostgresServer,
) -> None:
    address = postgres.empty()
    async with running(PostgresDatabase("ADDRESS", address)) as one:
        reservation = await one.reserve(charge(300))
        with psycopg.connect(address, autocommit=True) as operator:
            operator.execute(
                "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
                " WHERE application_name = 'weir-frontier-proxy'"
            )
        async with running(PostgresDatabase("ADDRESS", address)) as other:
            assert await spent(other) == (300, 0)
            await one.settle(reservation, COUNTS, 30)
            await until_spent(other, (30, 0))
            (row,) = await other.spend(SpendQuery())
            assert (row.attempts, row.counts) == (1, COUNTS)


async def test_a_proxy_that_ends_leaves_no_lock_and_one_that_was_killed_none_for_long(tmp_path: Path) -> None:
    (tmp_path / "l.sqlite3.123.lock").touch()
    async with running(SqliteDatabase(tmp_path / "l.sqlite3")) as one:
        await spend_at_once(one, charge(10), 5)
        (lock,) = names(tmp_path, "*.lock")
        assert lock != "l.sqlite3.123.lock"
        async with running(SqliteDatabase(tmp_path / "l.sqlite3")):
            assert len(names(tmp_path, "*.lock")) == 2
        assert names(tmp_path, "*.lock") == [lock]
    assert names(tmp_path, "*") == ["l.sqlite3"]


def names(folder: Path, pattern: str) -> list[str]:
    return sorted(path.name for path in folder.glob(pattern))


async def test_on_a_full_disk_nothing_new_is_spent_and_no_settlement_is_lost(tmp_path: Path) -> None:
    database = FullDisk(tmp_path / "l.sqlite3")
    async with running(database) as one:
        held = [await one.reserve(charge(100)) for _ in range(3)]
        database.full = True
        assert "state.directory" in (await unavailable(one, charge(1))).hint
        for reservation in held:
            await one.settle(reservation, COUNTS, 40)
        assert await spent(one) == (0, 300), "what is on the disk can still be read"
        await unavailable(one, charge(1))
        database.full = False
        await until_spent(one, (120, 0))
        await spend_at_once(one, charge(1), 1)


async def test_a_file_that_cannot_grow_refuses_and_stays_whole(tmp_path: Path) -> None:
    path = tmp_path / "l.sqlite3"
    database = SqliteDatabase(path)
    async with running(database) as one:
        await spend_at_once(one, charge(10), 10)

    class Small(SqliteDatabase):
        def _connect(self) -> sqlite3.Connection:
            connection = super()._connect()
            connection.execute("PRAGMA max_page_count = 1")
            return connection

    async with running(Small(path)) as one:
        tries = await asyncio.gather(
            *(one.reserve(charge(1, f"tenant {number}")) for number in range(200)), return_exceptions=True
        )
        assert {getattr(result, "code", None) for result in tries} == {ErrorCode.LEDGER_UNAVAILABLE}
    async with running(database) as one:
        assert await spent(one) == (10, 0)


async def test_what_cannot_be_written_to_the_end_is_settled_in_full_at_the_next_start(tmp_path: Path) -> None:
    database = FullDisk(tmp_path / "l.sqlite3")
    with structlog.testing.capture_logs() as logs:
        async with running(database) as one:
            reservation = await one.reserve(charge(100))
            database.full = True
            await one.settle(reservation, COUNTS, 40)
    assert [entry["count"] for entry in logs if entry["event"] == "settlements_unwritten"] == [1]
    database.full = False
    async with running(database) as one:
        assert await spent(one) == (100, 0)


async def test_a_reservation_that_was_written_but_not_confirmed_is_given_back(tmp_path: Path) -> None:
    database = Deaf(tmp_path / "l.sqlite3")
    async with running(database) as one:
        reservation = await one.reserve(charge(70))
        database.lose = True
        await unavailable(one, charge(100))
        await until_spent(one, (0, 70))
        database.lose = True
        await one.settle(reservation, COUNTS, 50)
        await until_spent(one, (50, 0))
        (row,) = await one.spend(SpendQuery())
        assert row.attempts == 1


async def test_a_caller_that_goes_while_its_reservation_is_written_sets_nothing_aside(tmp_path: Path) -> None:
    database = Gated(tmp_path / "l.sqlite3")
    async with running(database) as one:
        database.shut = True
        task = asyncio.create_task(one.reserve(charge(100)))
        await asyncio.to_thread(database.inside.wait, SOON_S)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        database.on.set()
        assert task.cancelled()
        assert await spent(one) == (0, 0)


async def test_what_waits_while_one_transaction_is_written_is_written_in_the_next_one(tmp_path: Path) -> None:
    database = Gated(tmp_path / "l.sqlite3")
    async with running(database) as one:
        before = database.begun
        database.shut = True
        first = asyncio.create_task(one.reserve(charge(1)))
        await asyncio.to_thread(database.inside.wait, SOON_S)
        rest = [asyncio.create_task(one.reserve(charge(1))) for _ in range(300)]
        await asyncio.sleep(0)
        database.on.set()
        await asyncio.gather(first, *rest)
        assert database.begun - before == 2


async def test_a_settlement_is_written_with_the_next_reservation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "LINGER_S", SOON_S)
    database = Gated(tmp_path / "l.sqlite3")
    async with running(database) as one:
        before = database.begun
        settling: list[asyncio.Task[None]] = []
        for _ in range(3):
            reservation = await one.reserve(charge(10))
            settling.append(asyncio.create_task(one.settle(reservation, COUNTS, 5)))
            await asyncio.sleep(0)
        assert [task.done() for task in settling] == [True, True, False]
        assert database.begun - before == 3


async def test_a_question_sees_every_settlement_before_it(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "LINGER_S", SOON_S)
    async with running(connect()) as one:
        reservation = await one.reserve(charge(10))
        settling = asyncio.create_task(one.settle(reservation, COUNTS, 5))
        await asyncio.sleep(0)
        assert not settling.done()
        assert await spent(one) == (5, 0)
        await settling


async def test_a_settlement_that_stays_alone_is_written(tmp_path: Path) -> None:
    async with running(SqliteDatabase(tmp_path / "l.sqlite3")) as one:
        await one.settle(await one.reserve(charge(10)), COUNTS, 5)
        assert await spent(one) == (5, 0)


async def test_a_long_report_keeps_no_reservation_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on = threading.Event()

    def slow(self: Reports, query: SpendQuery) -> list[SpendRow]:
        assert on.wait(SOON_S)
        return []

    monkeypatch.setattr(Reports, "spend", slow)
    async with running(SqliteDatabase(tmp_path / "l.sqlite3")) as one:
        report = asyncio.create_task(one.spend(SpendQuery()))
        await asyncio.sleep(0)
        await spend_at_once(one, charge(10), 5)
        assert not report.done()
        on.set()
        assert await report == []


async def test_a_server_that_goes_and_comes_back_loses_nothing(
    postgres: PostgresServer, request: pytest.FixtureRequest
) -> None:
    address = postgres.empty()
    async with running(PostgresDatabase("ADDRESS", address)) as one:
        reservation = await one.reserve(charge(100))
        postgres.kill()
        try:
            await one.settle(reservation, COUNTS, 40)
            error = await unavailable(one, charge(1))
            assert "ADDRESS" in error.hint
            with pytest.raises(WeirError, match=ErrorCode.LEDGER_UNAVAILABLE):
                await one.spend(SpendQuery())
        finally:
            postgres.start()
        await until_spent(one, (40, 0))
        await spend_at_once(one, charge(1), 1)


async def test_an_unusable_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    unusable = ledger(SqliteDatabase(tmp_path / "file" / "ledger.sqlite3"))
    with pytest.raises(WeirError) as caught:
        await unusable.start()
    assert caught.value.code is ErrorCode.LEDGER_UNAVAILABLE
    assert "state.directory" in caught.value.hint
    with pytest.raises(WeirError, match=ErrorCode.SHUTTING_DOWN):
        await unusable.reserve(charge(1))


async def test_a_server_that_cannot_be_reached_is_named_by_its_variable_alone(tmp_path: Path) -> None:
    address = f"postgresql://weir:secret-word@/postgres?host={tmp_path}"
    unreachable = ledger(PostgresDatabase("LEDGER_ADDRESS", address))
    with pytest.raises(WeirError) as caught:
        await unreachable.start()
    assert caught.value.code is ErrorCode.LEDGER_UNAVAILABLE
    assert "LEDGER_ADDRESS" in caught.value.hint
    assert "secret-word" not in str(caught.value) + caught.value.internal


async def test_a_file_of_before_there_were_days_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    with sqlite3.connect(path) as old:
        old.executescript("""
            CREATE TABLE totals (tenant TEXT NOT NULL, model TEXT NOT NULL, settled_nano INTEGER NOT NULL,
                PRIMARY KEY (tenant, model)) STRICT, WITHOUT ROWID;
            CREATE TABLE reservations (id INTEGER PRIMARY KEY, tenant TEXT NOT NULL, model TEXT NOT NULL,
                request_id TEXT NOT NULL, nano INTEGER NOT NULL, created_at REAL NOT NULL) STRICT;
            CREATE INDEX reservations_by_tenant ON reservations (tenant);
            INSERT INTO totals VALUES ('acme', 'gpt', 200), ('acme', 'claude', 30), ('', 'gpt', 4);
            INSERT INTO reservations VALUES (7, 'acme', 'gpt', 'r1', 100, 1796083140.0);
        """)
    old.close()
    rules = [BudgetRule("acme", None, "total", 331), BudgetRule("acme", None, "month", 101)]
    for _ in range(2):
        async with running(SqliteDatabase(path), rules) as one:
            assert await spent(one, "acme") == (330, 0)
            assert await spent(one, "") == (4, 0)
            assert [state.committed_nano for state in await one.budgets("acme")] == [330, 100]
            await one.settle(await one.reserve(charge(1)), TokenCounts(), 0)
