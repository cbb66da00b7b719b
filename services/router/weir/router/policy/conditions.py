"""A rule's condition as closures, the cheapest first."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from weir.common.config.routing import RuleCondition

ANY = "any"


@dataclass(frozen=True, slots=True)
class Circumstance:
    """What conditions look at; ``latency_budget_s`` is the one that the request or its tenant states."""

    tenant: str
    domains: Mapping[str, float]
    language: str
    personal_data: frozenset[str]
    constraint: str | None
    prompt_tokens: int
    complexity: float
    turns: int
    latency_budget_s: float | None


Test = Callable[[Circumstance], bool]
# Field of the condition, field of the circumstance, and how the second must compare with the first.
_BOUNDS: tuple[tuple[str, str, Callable[[Any, Any], bool]], ...] = (
    ("min_prompt_tokens", "prompt_tokens", operator.ge),
    ("max_prompt_tokens", "prompt_tokens", operator.le),
    ("min_complexity", "complexity", operator.ge),
    ("max_complexity", "complexity", operator.le),
    ("min_turns", "turns", operator.ge),
)


def tests(when: RuleCondition) -> tuple[Test, ...]:
    """Compile all but the tenants, which ``rules`` looks up by name. All tests must hold."""
    found = [
        _bounded(field, compare, bound)
        for setting, field, compare in _BOUNDS
        if (bound := getattr(when, setting)) is not None
    ]
    if when.constraints:
        found.append(_constrained(frozenset(when.constraints)))
    if when.languages:
        found.append(_in_language(frozenset(when.languages)))
    if when.latency_budget_below_ms is not None:
        found.append(_hurried(when.latency_budget_below_ms / 1000))
    if when.personal_data:
        found.append(_personal(frozenset(when.personal_data)))
    if when.domains:
        found.append(_in_domain(tuple(when.domains), when.domain_probability))
    return tuple(found)


def _bounded(field: str, compare: Callable[[Any, Any], bool], bound: float) -> Test:
    read = operator.attrgetter(field)
    return lambda seen: compare(read(seen), bound)


def _constrained(kinds: frozenset[str]) -> Test:
    if ANY in kinds:
        return lambda seen: seen.constraint is not None
    return lambda seen: seen.constraint in kinds


def _in_language(codes: frozenset[str]) -> Test:
    return lambda seen: seen.language in codes


def _hurried(bound_s: float) -> Test:
    return lambda seen: seen.latency_budget_s is not None and seen.latency_budget_s < bound_s


def _personal(kinds: frozenset[str]) -> Test:
    if ANY in kinds:
        return lambda seen: bool(seen.personal_data)
    return lambda seen: not kinds.isdisjoint(seen.personal_data)


def _in_domain(names: tuple[str, ...], cut: float) -> Test:
    if len(names) == 1:
        return lambda seen: seen.domains.get(names[0], -1.0) >= cut

    # Prompts have fewer domains than rules may name.
    return lambda seen: any(share >= cut and name in names for name, share in seen.domains.items())
