"""The configured ledger: which budgets there are, where it is kept, and what cannot be configured."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.postgres_server import PostgresServer
from tests.unit.ledger_bench import charge, spend_at_once, spent
from weir.common.config import ConfigError, Settings
from weir.frontier_proxy.domain import NANO
from weir.frontier_proxy.ledger.base import Period
from weir.frontier_proxy.ledger.opening import open_ledger
from weir.frontier_proxy.ledger.periods import end, label


def configured(**frontier: Any) -> Settings:
    return Settings.model_validate({"frontier": frontier})


async def test_it_is_kept_in_the_state_folder_and_found_there_again(tmp_path: Path) -> None:
    for nano in (5, 10):
        ledger = open_ledger(Settings())
        await ledger.start()
        await spend_at_once(ledger, charge(10), 5)
        assert await spent(ledger) == (nano, 0)
        await ledger.aclose()
    assert (tmp_path / "state" / "ledger.sqlite3").exists()


async def test_it_is_kept_in_postgresql_where_a_variable_names_one(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEDGER_ADDRESS", postgres.empty())
    for nano in (5, 10):
        ledger = open_ledger(configured(ledger_dsn_env="LEDGER_ADDRESS"))
        await ledger.start()
        await spend_at_once(ledger, charge(10), 5)
        assert await spent(ledger) == (nano, 0)
        await ledger.aclose()


async def test_budgets_are_those_of_both_settings() -> None:
    budgets = [
        {"tenant": "acme", "per": "day", "usd": 1},
        {"model": "gpt-4o", "usd": 2},
        {"tenant": "*", "per": "total", "usd": 3},
    ]
    ledger = open_ledger(configured(budgets_usd={"acme": 0.5}, budgets=budgets))
    await ledger.start()
    states = await ledger.budgets(None)
    await ledger.aclose()
    assert [(b.tenant, b.model, b.period, b.limit_nano / NANO) for b in states] == [
        ("*", "", "total", 3),
        ("acme", "gpt-4o", "month", 2),
        ("acme", "", "total", 0.5),
        ("acme", "", "day", 1),
    ]


@pytest.mark.parametrize(
    ("frontier", "named"),
    [
        (
            {"budgets": [{"model": "gpt-4oo", "usd": 1}]},
            "frontier.budgets.0.model: 'gpt-4oo' has no price; did",
        ),
        ({"budgets": [{"model": "zzz", "usd": 1}]}, "frontier.prices"),
        ({"budgets": [{"usd": "inf"}]}, "frontier.budgets.0.usd"),
        ({"budgets_usd": {"acme": "inf"}}, "frontier.budgets_usd.acme"),
        ({"ledger_dsn_env": "NO_SUCH_VARIABLE"}, "NO_SUCH_VARIABLE"),
    ],
)
def test_what_cannot_be_used_is_named(frontier: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        open_ledger(configured(**frontier))


def test_an_address_that_is_none_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEDGER_ADDRESS", "postgre://weir:secret-word@db/weir")
    with pytest.raises(ConfigError, match="LEDGER_ADDRESS") as caught:
        open_ledger(configured(ledger_dsn_env="LEDGER_ADDRESS"))
    assert "secret-word" not in str(caught.value)


@pytest.mark.parametrize(
    ("period", "day", "name", "ends"),
    [
        ("day", date(2026, 12, 31), "2026-12-31", datetime(2027, 1, 1, tzinfo=UTC)),
        ("month", date(2026, 12, 31), "2026-12", datetime(2027, 1, 1, tzinfo=UTC)),
        ("month", date(2028, 2, 29), "2028-02", datetime(2028, 3, 1, tzinfo=UTC)),
        ("month", date(2026, 1, 1), "2026-01", datetime(2026, 2, 1, tzinfo=UTC)),
        ("total", date(2026, 1, 1), "", None),
    ],
)
def test_periods_have_a_name_and_an_end(period: Period, day: date, name: str, ends: datetime | None) -> None:
    assert (label(period, day), end(period, day)) == (name, ends)
