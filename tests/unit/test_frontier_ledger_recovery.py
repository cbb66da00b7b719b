"""What a proxy that died has left is settled while another one lives."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.unit.ledger_bench import DATABASES, Connect, charge, connector, running, spent
from weir.common.errors import ErrorCode, WeirError
from weir.frontier_proxy.domain import TokenCounts
from weir.frontier_proxy.ledger.budgets import Budgets
from weir.frontier_proxy.ledger.database import LedgerDownError
from weir.frontier_proxy.ledger.recovery import Recovery
from weir.frontier_proxy.ledger.sqlite import SqliteDatabase
from weir.frontier_proxy.ledger.store import Store


@pytest.fixture(params=DATABASES)
def connect(request: pytest.FixtureRequest, tmp_path: Path) -> Connect:
    return connector(request, tmp_path)


async def test_what_a_dead_proxy_left_is_settled_in_full_by_a_living_one(connect: Connect) -> None:
    async with running(connect()) as living:
        kept = await living.reserve(charge(50))
        async with running(connect()) as dying:
            await dying.reserve(charge(300))
        assert await spent(living) == (0, 350)
        with capture_logs() as logs:
            await living.recover()
        assert await spent(living) == (300, 50)
        await living.settle(kept, TokenCounts(1), 20)
        await living.recover()
        assert await spent(living) == (320, 0)
    assert [(log["event"], log["count"]) for log in logs] == [("reservations_recovered", 1)]


async def test_what_a_living_proxy_holds_is_left_alone(connect: Connect) -> None:
    async with running(connect()) as one, running(connect()) as other:
        await one.reserve(charge(300))
        await other.recover()
        assert await spent(other) == (0, 300)


def test_a_proxy_is_known_to_live_although_another_one_looks_while_it_connects(connect: Connect) -> None:
    looking, coming = connect(), connect()
    Store(looking, 6, Budgets([])).open()
    connected = threading.Event()

    def connects() -> None:
        type(coming).connect(coming)
        connected.set()

    coming.connect = connects  # type: ignore[method-assign]
    with ThreadPoolExecutor() as pool:
        with looking.transaction():
            assert looking.dead(7)
            opening = pool.submit(Store(coming, 7, Budgets([])).open)
            connected.wait()
        opening.result()
    with looking.transaction():
        assert not looking.dead(7)
    looking.leave()
    coming.leave()


async def test_a_recovery_that_fails_says_so_and_the_ledger_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(*_: object) -> list[int]:
        raise LedgerDownError("disk I/O error")

    async with running(SqliteDatabase(tmp_path / "ledger.sqlite3")) as opened:
        with monkeypatch.context() as patched:
            patched.setattr(Store, "recover", down)
            with pytest.raises(WeirError) as caught:
                await opened.recover()
        await opened.settle(await opened.reserve(charge(300)), TokenCounts(1), 30)
        assert await spent(opened) == (30, 0)
    assert caught.value.code is ErrorCode.LEDGER_UNAVAILABLE


async def test_it_is_looked_for_again_and_again_also_after_a_failure() -> None:
    turns: list[int] = []
    thrice = asyncio.Event()

    async def recover() -> None:
        turns.append(len(turns))
        if len(turns) == 1:
            raise WeirError(ErrorCode.LEDGER_UNAVAILABLE, internal="locked")
        if len(turns) == 3:
            thrice.set()

    recovery = Recovery(recover, period_s=0.001)
    with capture_logs() as logs:
        await recovery.start()
        await thrice.wait()
        await recovery.aclose()
        await recovery.aclose()
    assert [(log["event"], log["reason"]) for log in logs] == [("recovery_failed", "locked")]
