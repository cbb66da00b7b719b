"""The rules of the configuration, compiled: checked once, then asked for every request."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from weir.common.config import ConfigError
from weir.common.config.routing import Rule, RuleCondition
from weir.router.domain import ALL_TIERS, Residency, Tier
from weir.router.policy.conditions import ANY, Circumstance, Test, tests
from weir.router.policy.limits import Limit
from weir.router.policy.names import Known, check


@dataclass(frozen=True, slots=True)
class CompiledRule:
    """One rule. ``limit`` is ``None`` where it narrows nothing."""

    name: str
    tests: tuple[Test, ...]
    limit: Limit | None
    prefer: Tier | None
    adapter: str

    def matches(self, seen: Circumstance) -> bool:
        """Whether all of its conditions hold."""
        for test in self.tests:  # noqa: SIM110 - a generator costs a microsecond more per rule
            if not test(seen):
                return False
        return True


class RuleBook:
    """All rules in their order. Those that name tenants are only looked at for these.

    Args:
        rules: as configured.
        known: the names that there are.

    Raises:
        ConfigError: an unknown or repeated name, or rules of one condition that together leave no tier.
    """

    def __init__(self, rules: Sequence[Rule], known: Known) -> None:
        for rule in rules:
            _check_names(rule, known)
        _check_unique(rules)
        _check_contradictions(rules)
        compiled = [_compile(rule) for rule in rules]
        named = {tenant for rule in rules for tenant in rule.when.tenants}
        self._general = tuple(c for c, rule in zip(compiled, rules, strict=True) if not rule.when.tenants)
        self._of_tenant = {
            tenant: tuple(
                c
                for c, rule in zip(compiled, rules, strict=True)
                if not rule.when.tenants or tenant in rule.when.tenants
            )
            for tenant in named
        }

    def matching(self, seen: Circumstance) -> tuple[CompiledRule, ...]:
        """Return the rules that hold, in their order."""
        rules = self._of_tenant.get(seen.tenant, self._general)
        return tuple([rule for rule in rules if rule.matches(seen)])


def limits(matching: Iterable[CompiledRule]) -> list[Limit]:
    """Return what the rules narrow by: all of them do."""
    return [rule.limit for rule in matching if rule.limit]


def preference(matching: Iterable[CompiledRule]) -> Tier | None:
    """Return the tier of the first rule that prefers one."""
    return next((rule.prefer for rule in matching if rule.prefer), None)


def adapter(matching: Iterable[CompiledRule]) -> str:
    """Return the domain of the first rule that names an adapter, empty without one."""
    return next((rule.adapter for rule in matching if rule.adapter), "")


def _compile(rule: Rule) -> CompiledRule:
    return CompiledRule(
        rule.name,
        tests(rule.when),
        _limit(rule) if rule.allow or rule.residency else None,
        Tier(rule.prefer) if rule.prefer else None,
        rule.adapter or "",
    )


def _limit(rule: Rule) -> Limit:
    return Limit(
        f"rule '{rule.name}'",
        "rule",
        frozenset(map(Tier, rule.allow)) or ALL_TIERS,
        Residency(rule.residency or "any"),
    )


def _check_names(rule: Rule, known: Known) -> None:
    where, when = f"routing.rules '{rule.name}'", rule.when
    check(where, "language", when.languages, known.languages)
    check(where, "kind of personal data", when.personal_data, [*known.personal_data, ANY])
    check(where, "kind of constraint", when.constraints, [*known.constraints, ANY])
    check(where, "domain", when.domains, known.domains)
    check(where, "adapter", [rule.adapter] if rule.adapter else [], known.adapters)


def _check_unique(rules: Sequence[Rule]) -> None:
    names = [rule.name for rule in rules]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"routing.rules: '{name}' names two rules; receipts could not tell them apart.")


def _check_contradictions(rules: Sequence[Rule]) -> None:
    """Rules that hold always hold together with each condition; other overlaps only a request can show."""
    always = RuleCondition()
    for condition in (rule.when for rule in rules):
        together = [rule for rule in rules if rule.when in (condition, always)]
        barred = {tier for rule in together for tier, _ in _limit(rule).bars}
        if len(barred) == len(Tier):
            names = ", ".join(f"'{rule.name}'" for rule in together if rule.allow or rule.residency)
            raise ConfigError(
                f"routing.rules: {names} leave no tier together; widen an allow list or a residency."
            )
