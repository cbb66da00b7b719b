"""Receipts in trouble: a full disk, a database that is down or was never there, a writer that is killed."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import sys
import time
from collections.abc import Awaitable
from pathlib import Path

import pytest
import structlog

from tests.postgres_server import PostgresServer
from tests.services.receipts_bench import ADDRESS, DATABASES, Connect, connector, note, reading, running
from weir.common.config.model import Receipts, State
from weir.common.errors import ErrorCode, WeirError
from weir.router.receipts import writer
from weir.router.receipts.convert import Feedback
from weir.router.receipts.database import Database, check
from weir.router.receipts.postgres import PostgresDatabase
from weir.router.receipts.records import FeedbackRecord, Record
from weir.router.receipts.sqlite import SqliteDatabase
from weir.router.receipts.store import ReceiptStore, database_of

GOOD = Feedback(acceptable=True, score=None)
SOON_S = 20.0


@pytest.fixture(params=DATABASES)
def connect(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Connect:
    return connector(request, tmp_path, monkeypatch)


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "RETRY_S", 0.01)
    monkeypatch.setattr(writer, "MAX_RETRY_S", 0.02)


@pytest.fixture
def server(postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> PostgresServer:
    """The server, with an empty schema at `ADDRESS`; whoever kills it starts it again."""
    monkeypatch.setenv(ADDRESS, postgres.empty())
    return postgres


class FullDisk(SqliteDatabase):
    """A file that cannot grow past so many pages; at first without a limit."""

    pages = 2**30

    def _prepare(self, connection: sqlite3.Connection) -> None:
        super()._prepare(connection)
        connection.execute(f"PRAGMA max_page_count = {self.pages}")

    def limit(self, pages: int) -> None:
        self.pages = pages
        self._connection.execute(f"PRAGMA max_page_count = {pages}")


async def code_of(answer: Awaitable[object]) -> ErrorCode:
    with pytest.raises(WeirError) as caught:
        await answer
    return caught.value.code


async def until_known(store: ReceiptStore, decision_id: str) -> None:
    """Wait until the decision is in the database; the retries are the writer's own."""
    deadline = time.monotonic() + SOON_S
    while time.monotonic() < deadline:
        try:
            if await store.find(decision_id):
                return
        except WeirError:
            pass
        await asyncio.sleep(0.02)
    raise AssertionError(f"{decision_id} was not written")


async def test_full_disk_stops_no_request_and_is_made_good_once_there_is_room(tmp_path: Path) -> None:
    database = FullDisk(tmp_path / "r.sqlite3")
    async with running(database) as store:
        note(store, 1)
        assert await store.find("d1")
        database.limit(1)
        note(store, *range(2, 500))
        assert await code_of(store.label("d1", GOOD, tenant="t")) is ErrorCode.STORE_UNAVAILABLE
        note(store, 500)
        database.pages = 2**30
        await until_known(store, "d500")
        assert store.dropped == 0
    with reading(SqliteDatabase(tmp_path / "r.sqlite3")) as kept:
        assert (check(kept).ok, check(kept).count) == (True, 500)


async def test_what_waits_is_bounded_and_the_rest_counted_and_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "MAX_PENDING_BYTES", 20_000)
    database = FullDisk(tmp_path / "r.sqlite3")
    with structlog.testing.capture_logs() as logs:
        async with running(database) as store:
            assert await store.find("d1") is None
            database.limit(1)
            note(store, *range(100))
            assert store.dropped == 90
            assert await code_of(store.find("d1")) is ErrorCode.STORE_UNAVAILABLE
    events = [entry["event"] for entry in logs]
    assert events.count("receipts_database_down") == 1
    dropped = [entry["total"] for entry in logs if entry["event"] == "receipts_dropped"]
    assert dropped == [1, 2, 4, 8, 16, 32, 64]
    assert [entry["count"] for entry in logs if entry["event"] == "receipts_lost"] == [10]


async def test_prompts_count_towards_the_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.receipts_samples import FACTS, decision

    monkeypatch.setattr(writer, "MAX_PENDING_BYTES", 100_000)
    async with running(SqliteDatabase(tmp_path / "r.sqlite3"), store_prompts=True) as store:
        for number in range(3):
            store.record(decision(number), FACTS, request_id="r", tenant="t", prompt="x" * 20_000)
        assert store.dropped == 2
        assert await store.find("d0")


async def test_killed_postgres_stops_no_request_and_is_made_good_once_it_is_back(
    server: PostgresServer,
) -> None:
    async with running(PostgresDatabase(ADDRESS)) as store:
        note(store, 1)
        assert await store.find("d1")
        server.kill()
        try:
            note(store, *range(2, 100))
            assert await code_of(store.label("d1", GOOD, tenant="t")) is ErrorCode.STORE_UNAVAILABLE
        finally:
            server.start()
        await until_known(store, "d99")
        await store.label("d99", GOOD, tenant="t")
    with reading(PostgresDatabase(ADDRESS)) as database:
        assert (check(database).ok, check(database).count) == (True, 100)


async def test_postgres_that_is_down_at_the_start_is_used_once_it_is_there(server: PostgresServer) -> None:
    server.kill()
    try:
        with structlog.testing.capture_logs() as logs:
            store = ReceiptStore(PostgresDatabase(ADDRESS), Receipts())
            await store.start()
            note(store, 1)
            assert await code_of(store.find("d1")) is ErrorCode.STORE_UNAVAILABLE
    finally:
        server.start()
    await until_known(store, "d1")
    await store.aclose()
    assert [entry["event"] for entry in logs] == ["receipts_database_down"]


async def test_closing_does_not_wait_for_a_database_that_is_down(server: PostgresServer) -> None:
    async with running(PostgresDatabase(ADDRESS)) as store:
        note(store, 1)
        assert await store.find("d1")
        server.kill()
        try:
            note(store, 2)
            with structlog.testing.capture_logs() as logs:
                await store.aclose()
        finally:
            server.start()
    assert [entry["count"] for entry in logs if entry["event"] == "receipts_lost"] == [1]


@pytest.mark.parametrize(
    "address", ["postgresql://me:heron-pass@127.0.0.1:1/r", "host=h password=heron-pass oops"]
)
async def test_address_is_in_no_log_and_no_error(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ADDRESS, address)
    said = ""
    with structlog.testing.capture_logs() as logs:
        store = ReceiptStore(PostgresDatabase(ADDRESS), Receipts())
        try:
            await store.start()
        except WeirError as error:
            said = f"{error} {error.hint} {error.internal}"
        await store.aclose()
    said += str(logs)
    assert "refused" in said or ADDRESS in said
    assert "heron-pass" not in said
    assert "127.0.0.1" not in said


@pytest.mark.parametrize("address", [None, "no address at all"])
async def test_variable_without_an_address_is_an_error_that_names_it(
    address: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(ADDRESS, raising=False)
    if address is not None:
        monkeypatch.setenv(ADDRESS, address)
    store = ReceiptStore(database_of(State(receipts=Receipts(postgres_env=ADDRESS))), Receipts())
    with pytest.raises(WeirError) as caught:
        await store.start()
    await store.aclose()
    assert ADDRESS in caught.value.hint
    assert "state.receipts.postgres_env" in caught.value.hint


async def test_folder_that_cannot_be_made_is_an_error_that_names_the_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = ReceiptStore(database_of(State(directory=tmp_path / "file" / "deep")), Receipts())
    with pytest.raises(WeirError, match="cannot be opened") as caught:
        await store.start()
    await store.aclose()
    assert "state.directory" in caught.value.hint


async def test_file_that_is_no_database_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "receipts.sqlite3").write_text("not a database, and long enough to be read as one " * 20)
    store = ReceiptStore(database_of(State(directory=tmp_path)), Receipts())
    with pytest.raises(WeirError, match="cannot be opened"):
        await store.start()
    await store.aclose()


async def test_failed_work_is_an_error_for_its_asker_alone(tmp_path: Path) -> None:
    def fail(database: Database) -> None:
        raise ZeroDivisionError

    made = writer.Writer(SqliteDatabase(tmp_path / "r.sqlite3"), 10)
    await made.start()
    assert await code_of(made.ask(fail)) is ErrorCode.INTERNAL
    assert (await made.ask(lambda database: database.anchor())).sequence == 0
    await made.aclose()


async def test_record_that_cannot_be_made_harms_no_other(tmp_path: Path) -> None:
    def fail() -> Record:
        raise ZeroDivisionError

    made = writer.Writer(SqliteDatabase(tmp_path / "r.sqlite3"), 10)
    await made.start()
    made.post(fail, 1)
    made.post(lambda: FeedbackRecord("d", at=1.0), 1)
    assert len(await made.ask(lambda database: database.of_decision("d"))) == 1
    await made.aclose()


async def test_too_many_questions_at_once_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "MAX_QUESTIONS", 3)
    async with running(SqliteDatabase(tmp_path / "r.sqlite3")) as store:
        answers = await asyncio.gather(*(store.find("d") for _ in range(5)), return_exceptions=True)
    assert [getattr(answer, "code", answer) for answer in answers] == [None] * 3 + [ErrorCode.QUEUE_FULL] * 2


WRITE_FOREVER = """
import asyncio, itertools, sys
from pathlib import Path
from tests.receipts_samples import FACTS, decision
from weir.common.config.model import Receipts, State
from weir.router.receipts.store import ReceiptStore, database_of

async def main():
    receipts = Receipts(postgres_env=sys.argv[2] or None)
    store = ReceiptStore(database_of(State(directory=Path(sys.argv[1]), receipts=receipts)), receipts)
    await store.start()
    for number in itertools.count():
        store.record(decision(number), FACTS, request_id="r", tenant="t")
        if number % 50 == 0:
            await store.find("d0")
            print(number, flush=True)

asyncio.run(main())
"""


async def test_writer_killed_in_mid_batch_leaves_a_chain_that_verifies(
    connect: Connect, tmp_path: Path
) -> None:
    variable = ADDRESS if isinstance(connect(), PostgresDatabase) else ""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WRITE_FOREVER, str(tmp_path), variable,
        stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[2], env={**os.environ, "PYTHONPATH": "."},
    )  # fmt: skip
    assert process.stdout is not None
    for _ in range(10):
        assert await process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    assert await process.wait() == -signal.SIGKILL
    with reading(connect() if variable else SqliteDatabase(tmp_path / "receipts.sqlite3")) as database:
        verdict = check(database)
    assert verdict.ok
    assert verdict.count >= 400
    async with running(connect() if variable else SqliteDatabase(tmp_path / "receipts.sqlite3")) as store:
        note(store, 10**6)
        assert await store.find(f"d{10**6}")
