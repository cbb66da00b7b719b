"""The configured ledger: its budgets, and where it is kept."""

from __future__ import annotations

import difflib
import os
import secrets
from collections.abc import Collection, Iterator
from decimal import DecimalException

from weir.common.config import ConfigError, Settings
from weir.common.config.frontier import Budget
from weir.common.state import state_directory
from weir.frontier_proxy.domain import to_nano
from weir.frontier_proxy.ledger.base import BudgetRule
from weir.frontier_proxy.ledger.budgets import Budgets
from weir.frontier_proxy.ledger.database import Database
from weir.frontier_proxy.ledger.grouped import GroupedLedger
from weir.frontier_proxy.ledger.sqlite import FILE_NAME, SqliteDatabase
from weir.frontier_proxy.ledger.store import Store
from weir.frontier_proxy.prices import load_prices


def open_ledger(settings: Settings) -> GroupedLedger:
    """Return the configured ledger, not yet started; it is a component of the app.

    Raises:
        ConfigError: a budget on a model that has no price, an amount that is none, an unset or malformed
            address, a driver that is not installed.
    """
    budgets = Budgets(_rules(settings))
    return GroupedLedger(Store(_database(settings), secrets.randbits(31), budgets))


def _database(settings: Settings) -> Database:
    variable = settings.frontier.ledger_dsn_env
    if variable is None:
        return SqliteDatabase(state_directory(settings.state) / FILE_NAME)
    from weir.frontier_proxy.ledger.postgres import PostgresDatabase

    address = os.environ.get(variable, "")
    where = f"The variable {variable}, which frontier.ledger_dsn_env names,"
    if not address:
        raise ConfigError(f"{where} is not set.")
    try:
        return PostgresDatabase(variable, address)
    except ModuleNotFoundError:
        raise ConfigError(
            "A ledger in PostgreSQL needs the extra: pip install 'weir[server,postgres]'."
        ) from None
    except ValueError as error:
        raise ConfigError(f"{where} {error}.") from None


def _rules(settings: Settings) -> Iterator[BudgetRule]:
    for tenant, usd in settings.frontier.budgets_usd.items():
        yield BudgetRule(tenant, None, "total", _nano(f"frontier.budgets_usd.{tenant}", usd))
    priced = load_prices(settings.frontier.prices).keys()
    for index, budget in enumerate(settings.frontier.budgets):
        where = f"frontier.budgets.{index}"
        _check_model(where, budget, priced)
        yield BudgetRule(budget.tenant, budget.model, budget.per, _nano(f"{where}.usd", budget.usd))


def _check_model(where: str, budget: Budget, priced: Collection[str]) -> None:
    """A misspelled model would be a budget that nothing is ever under."""
    if budget.model is None or budget.model in priced:
        return
    near = difflib.get_close_matches(budget.model, priced, n=1)
    hint = f"; did you mean '{near[0]}'?" if near else "; add it to frontier.prices."
    raise ConfigError(f"{where}.model: '{budget.model}' has no price{hint}")


def _nano(where: str, usd: float) -> int:
    try:
        return to_nano(usd)
    except (OverflowError, ValueError, DecimalException):
        raise ConfigError(f"{where}: is not an amount of US dollars.") from None
