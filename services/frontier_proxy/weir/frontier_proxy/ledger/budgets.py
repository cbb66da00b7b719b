"""Which budgets a charge is under, by which sums they are checked, and what is said where one is passed."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import date
from functools import lru_cache
from typing import get_args

from weir.common.errors import ErrorCode, WeirError
from weir.frontier_proxy.domain import to_usd
from weir.frontier_proxy.ledger.base import BudgetRule, BudgetState, Charge, Period, Reservation
from weir.frontier_proxy.ledger.periods import end, label

EVERYONE = "*"
_PERIODS: tuple[Period, ...] = get_args(Period)
_SPANS: dict[Period, str] = {"day": "today", "month": "this month", "total": "over all time"}


@lru_cache(maxsize=4096)
def scope_key(tenant: str | None, model: str | None, period: str) -> str:
    """Return the name of a running total; ``None`` for all tenants or models, ``period`` a label."""
    return json.dumps([period, tenant, model])


@lru_cache(maxsize=4096)
def scope_keys(tenant: str, model: str, day: date) -> tuple[str, ...]:
    """Return the names of all running totals that a charge is in, whatever budgets there are: a budget that
    is configured later finds its total, and proxies with different budgets keep the same ones."""
    return tuple(
        scope_key(whose, which, label(period, day))
        for whose in (tenant, None)
        for which in (model, None)
        for period in _PERIODS
    )


class Budgets:
    """The configured rules, found by the tenant."""

    def __init__(self, rules: Iterable[BudgetRule] = ()) -> None:
        self._rules = tuple(rules)
        self._by_tenant: dict[str | None, list[BudgetRule]] = defaultdict(list)
        for rule in self._rules:
            self._by_tenant[None if rule.tenant == EVERYONE else rule.tenant].append(rule)

    @property
    def tenants(self) -> set[str]:
        """The tenants that have a budget of their own by name."""
        return {rule.tenant for rule in self._rules if rule.tenant not in (None, EVERYONE)}

    def over(self, charge: Charge, day: date) -> list[tuple[BudgetRule, str]]:
        """Return the rules that a charge is under, each with the name of its running total."""
        return [
            (rule, _rule_key(rule, charge.tenant, day))
            for tenant in (None, charge.tenant)
            for rule in self._by_tenant.get(tenant, ())
            if rule.model in (None, charge.model)
        ]

    def limits(self, reservations: Iterable[Reservation]) -> dict[str, int]:
        """Return up to what running totals may be committed, by name, for all of these to be within every
        budget whatever their order; negative where they cannot be."""
        most: dict[str, int] = {}
        asked: dict[str, int] = defaultdict(int)
        for reservation in reservations:
            keys = set()
            for rule, key in self.over(reservation.charge, reservation.day):
                most[key] = min(most.get(key, rule.nano), rule.nano)
                keys.add(key)
            for key in keys:
                asked[key] += reservation.charge.nano
        return {key: nano - asked[key] for key, nano in most.items()}

    def own(self, tenant: str, day: date) -> list[tuple[BudgetRule, str]]:
        """Return a tenant's own budgets, each with the name of its running total."""
        own = [rule for rule in self._by_tenant.get(None, ()) if rule.tenant is None]
        return [(rule, _rule_key(rule, tenant, day)) for rule in (*own, *self._by_tenant.get(tenant, ()))]

    def shared(self, day: date) -> list[tuple[BudgetRule, str]]:
        """Return the budgets of all tenants together, each with the name of its running total."""
        shared = [rule for rule in self._rules if rule.tenant == EVERYONE]
        return [(rule, _rule_key(rule, EVERYONE, day)) for rule in shared]


def _rule_key(rule: BudgetRule, tenant: str, day: date) -> str:
    whose = None if rule.tenant == EVERYONE else tenant
    return scope_key(whose, rule.model, label(rule.period, day))


def state(rule: BudgetRule, tenant: str, committed: int, day: date) -> BudgetState:
    """Return how a budget stands; ``tenant`` is whose it is."""
    return BudgetState(tenant, rule.model or "", rule.period, rule.nano, committed, end(rule.period, day))


def passed(
    charge: Charge, rules: Sequence[tuple[BudgetRule, str]], committed: dict[str, int], day: date
) -> WeirError | None:
    """Return the error where a charge would pass a budget; money committed by name of its running total."""
    for rule, key in rules:
        spent = committed[key]
        if spent + charge.nano > rule.nano:
            return _exhausted(rule, charge, spent, day)
    return None


def _exhausted(rule: BudgetRule, charge: Charge, spent: int, day: date) -> WeirError:
    about = f"{_SPANS[rule.period]}{f' on {rule.model}' if rule.model else ''}"
    if rule.tenant == EVERYONE:
        # Amounts would tell a tenant what the others spend.
        hint = f"The budget of all tenants together {about} does not cover this request."
    else:
        name = f"tenant '{charge.tenant}'" if charge.tenant else "requests without a tenant"
        free = to_usd(max(0, rule.nano - spent))
        hint = (
            f"Of the budget of ${to_usd(rule.nano):.6g} for {name} {about} ${free:.6g} is free, "
            f"and this request may cost ${to_usd(charge.nano):.6g}."
        )
    facts = {"tenant": charge.tenant, "budget_period": rule.period, "budget_model": rule.model or ""}
    if resets := end(rule.period, day):
        facts["budget_resets_at"] = resets.isoformat()
    return WeirError(ErrorCode.BUDGET_EXHAUSTED, hint, metadata=facts)
