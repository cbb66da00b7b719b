"""The ledger never lets a budget be passed, and loses nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weir.common.errors import ErrorCode, WeirError
from weir.frontier_proxy.ledger.sqlite import Reservation, SqliteLedger

BUDGETS = {"acme": 1000, "": 50}
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(
            st.just("reserve"),
            st.sampled_from(["acme", "", "free"]),
            st.sampled_from(["gpt", "claude"]),
            st.integers(0, 600),
        ),
        st.tuples(st.just("settle"), st.integers(0, 20), st.floats(0, 1)),
    ),
    max_size=30,
)


async def play(operations: list[tuple[object, ...]]) -> None:
    ledger = SqliteLedger(Path(":memory:"), BUDGETS)
    await ledger.start()
    held: list[Reservation] = []
    settled: dict[tuple[str, str], int] = {}
    for name, *arguments in operations:
        if name == "reserve":
            tenant, model, nano = arguments
            before = sum(
                r.settled_nano + r.reserved_nano for r in await ledger.spend("") if r.tenant == tenant
            )
            fits = tenant not in BUDGETS or before + nano <= BUDGETS[tenant]  # type: ignore[operator]
            if fits:
                held.append(await ledger.reserve(tenant, model, nano, "r"))  # type: ignore[arg-type]
            else:
                with pytest.raises(WeirError, match=ErrorCode.BUDGET_EXHAUSTED):
                    await ledger.reserve(tenant, model, nano, "r")  # type: ignore[arg-type]
        elif held:
            index, share = arguments
            reservation = held.pop(index % len(held))  # type: ignore[operator]
            nano = int(reservation.nano * share)  # type: ignore[operator]
            await ledger.settle(reservation, nano)
            key = (reservation.tenant, reservation.model)
            settled[key] = settled.get(key, 0) + nano
        rows = await ledger.spend("")
        for tenant, budget in BUDGETS.items():
            assert sum(r.settled_nano + r.reserved_nano for r in rows if r.tenant == tenant) <= budget
        assert sum(r.reserved_nano for r in rows) == sum(r.nano for r in held)
    rows = await ledger.spend("")
    assert {(r.tenant, r.model): r.settled_nano for r in rows if r.settled_nano} == {
        key: nano for key, nano in settled.items() if nano
    }
    await ledger.aclose()


@settings(max_examples=60, deadline=None)
@given(OPERATIONS)
def test_settled_and_reserved_never_pass_the_budget_and_add_up(operations: list[tuple[object, ...]]) -> None:
    asyncio.run(play(operations))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "ledger.sqlite3"


async def test_of_many_reservations_at_once_only_those_that_fit_succeed(path: Path) -> None:
    ledger = SqliteLedger(path, BUDGETS)
    await ledger.start()
    tries = await asyncio.gather(
        *(ledger.reserve("acme", "gpt", 30, "r") for _ in range(50)), return_exceptions=True
    )
    await ledger.aclose()
    assert sum(isinstance(result, Reservation) for result in tries) == 33


async def test_what_a_crash_left_reserved_is_settled_in_full_at_the_next_start(path: Path) -> None:
    crashed = SqliteLedger(path, BUDGETS)
    await crashed.start()
    lost = await crashed.reserve("acme", "gpt", 300, "r1")
    await crashed.settle(await crashed.reserve("acme", "gpt", 200, "r2"), 20)
    restarted = SqliteLedger(path, BUDGETS)
    await restarted.start()
    (row,) = await restarted.spend("acme")
    assert (row.settled_nano, row.reserved_nano) == (320, 0)
    await crashed.settle(lost, 5)
    assert (await restarted.spend("acme"))[0].settled_nano == 320
    await crashed.aclose()
    await restarted.aclose()


async def test_settling_twice_counts_once(path: Path) -> None:
    ledger = SqliteLedger(path, {})
    await ledger.start()
    reservation = await ledger.reserve("t", "gpt", 100, "r")
    await ledger.settle(reservation, 40)
    await ledger.settle(reservation, 40)
    assert (await ledger.spend("t"))[0].settled_nano == 40
    await ledger.aclose()


async def test_a_reservation_whose_caller_was_cancelled_is_released(path: Path) -> None:
    ledger = SqliteLedger(path, BUDGETS)
    await ledger.start()
    task = asyncio.create_task(ledger.reserve("acme", "gpt", 900, "r"))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sum(row.reserved_nano for row in await ledger.spend("acme")) == 0
    await ledger.aclose()


async def test_a_budget_without_spending_is_listed(path: Path) -> None:
    ledger = SqliteLedger(path, BUDGETS)
    await ledger.start()
    (row,) = await ledger.spend("acme")
    assert (row.model, row.budget_nano, row.settled_nano) == ("", 1000, 0)
    await ledger.aclose()


async def test_an_unusable_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    ledger = SqliteLedger(tmp_path / "file" / "ledger.sqlite3", {})
    with pytest.raises(WeirError) as caught:
        await ledger.start()
    assert "state.directory" in caught.value.hint
    await ledger.aclose()
