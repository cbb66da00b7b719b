"""The decision engine: all that lies between what was measured and the choice. Never waits, asks no model."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from weir.common.config import Settings
from weir.router import eligibility
from weir.router.case import Bounds, Case
from weir.router.domain import Facts, Reason, Residency, Tier, TierState
from weir.router.eligibility import Eligibility
from weir.router.estimates import estimates
from weir.router.fleet import LOCAL_CONSTRAINTS
from weir.router.policy import rules
from weir.router.policy.conditions import Circumstance
from weir.router.policy.limits import Limit, narrow
from weir.router.policy.names import Known
from weir.router.policy.rules import CompiledRule, RuleBook
from weir.router.policy.tenants import Tenants
from weir.router.selection import DOWN, Selection, select
from weir.router.signals.base import Observation
from weir.router.signals.domains import DOMAIN_CUT
from weir.router.signals.language import known_languages
from weir.router.signals.panel import Readings, TextReadings
from weir.router.signals.personal_data import KINDS


@dataclass(frozen=True, slots=True)
class Verdict:
    """A choice with what it was made from.

    ``facts`` holds the policy in force. ``matching`` are the names of the rules that held, ``domain`` is the
    one whose adapter serves the prompt in the SLM, ``None`` for the base model.
    """

    facts: Facts
    allowed: Eligibility
    case: Case
    bounds: Bounds
    selection: Selection
    matching: tuple[str, ...]
    domain: str | None


class DecisionEngine:
    """Applies tenants, personal data, rules, eligibility and selection, in this order.

    Args:
        settings: the whole configuration.
        domains: that the classifier can name; rules that name others are refused where this is given.

    Raises:
        ConfigError: rules or tenant policies that cannot be followed. Blocks half a second for the language
            identifier where a rule names a language.
    """

    def __init__(self, settings: Settings, domains: Collection[str] | None = None) -> None:
        self._personal_residency = Residency(settings.routing.personal_data_residency)
        self._tenants = Tenants(settings.routing.tenants)
        self._rules = RuleBook(settings.routing.rules, _known(settings, domains))

    def admit(self, seen: Observation, text: TextReadings | None = None) -> tuple[Facts, Eligibility]:
        """Narrow by what needs no classifier; before the text is read, by the request and its tenant alone.

        Raises WeirError (see ``eligibility.refuse``).
        """
        found = (self._tenants.limit(seen.tenant), self._personal(seen, text))
        facts = narrow(seen.facts, [limit for limit in found if limit])
        return facts, _assess(facts, seen)

    def decide(self, seen: Observation, readings: Readings, allowed: Eligibility, bounds: Bounds) -> Verdict:
        """Choose. ``seen`` holds the facts that ``admit`` narrowed, ``allowed`` is what it left.

        Raises:
            WeirError: NO_ELIGIBLE_TIER or a nearer remedy where rules leave no tier; TIER_UNAVAILABLE where
            only a
                forbidden fallback is left.
        """
        facts = seen.facts
        matching = self._rules.matching(_circumstance(seen, readings))
        if limits := rules.limits(matching):
            facts = narrow(facts, limits)
            allowed = _assess(facts, seen)
        bounds = self._tenants.bounds(seen.tenant, bounds)
        domain = _domain(facts, readings, matching, seen.states[Tier.SLM])
        case = _case(facts, readings, allowed, seen, rules.preference(matching), adapted=domain is not None)
        selection = select(case, bounds)
        if not selection.order:
            raise eligibility.refuse_fallback()
        return Verdict(facts, allowed, case, bounds, selection, tuple(rule.name for rule in matching), domain)

    def _personal(self, seen: Observation, text: TextReadings | None) -> Limit | None:
        if seen.facts.policy.stated or text is None or not text.personal_data:
            return None
        source = f"personal data in the prompt ({', '.join(sorted(text.personal_data))})"
        return Limit(source, "personal_data", residency=self._personal_residency)


def _known(settings: Settings, domains: Collection[str] | None) -> Known:
    slm = settings.tiers.slm
    named = any(rule.when.languages for rule in settings.routing.rules)
    return Known(
        languages=known_languages() if named else (),
        personal_data=KINDS,
        constraints=LOCAL_CONSTRAINTS,
        domains=domains,
        # A worker that is run elsewhere may have others; where none is configured here, it tells.
        adapters={*slm.domains, *slm.run.adapters} or None,
    )


def _assess(facts: Facts, seen: Observation) -> Eligibility:
    allowed = eligibility.assess(facts, seen.states)
    if not allowed.eligible:
        raise eligibility.refuse(allowed)
    return allowed


def _circumstance(seen: Observation, readings: Readings) -> Circumstance:
    return Circumstance(
        tenant=seen.tenant,
        domains={domain.name: domain.probability for domain in readings.domains},
        language=readings.text.language.code,
        personal_data=readings.text.personal_data,
        constraint=readings.constraint,
        prompt_tokens=readings.size.prompt_tokens,
        complexity=readings.complexity,
        turns=readings.conversation.turns,
        latency_budget_s=seen.facts.policy.latency_budget_s,
    )


def _domain(
    facts: Facts, readings: Readings, matching: tuple[CompiledRule, ...], slm: TierState
) -> str | None:
    """Return the domain to adapt to: the request's, a rule's, or the likeliest that has an adapter."""
    adapters = dict(slm.adapters)
    if not adapters:
        return None
    likely = (domain.name for domain in readings.domains if domain.probability >= DOMAIN_CUT)
    return next((n for n in (facts.policy.domain, rules.adapter(matching), *likely) if n in adapters), None)


def _case(
    facts: Facts,
    readings: Readings,
    allowed: Eligibility,
    seen: Observation,
    prefer: Tier | None,
    *,
    adapted: bool,
) -> Case:
    exclusions = {exclusion.tier: exclusion.reason.code for exclusion in allowed.exclusions}
    estimated = [*allowed.eligible, *(tier for tier, code in exclusions.items() if code == DOWN)]
    return Case(
        complexity=readings.complexity,
        gain=seen.judgment.assessment.gain,
        eligible=allowed.eligible,
        exclusions=exclusions,
        estimates=estimates(estimated, seen.states, facts, readings),
        constraint=readings.constraint,
        latency_budget_s=facts.policy.latency_budget_s,
        prefer=prefer,
        adapted=adapted,
        pinned=_pinned(facts, allowed),
    )


def _pinned(facts: Facts, allowed: Eligibility) -> str:
    """A request that leaves one tier is not weighed: it goes there."""
    if len(allowed.eligible) != 1:
        return ""
    if facts.policy.domain:
        return "domain_pinned"
    return "pinned" if len(facts.policy.allowed) == 1 else ""


def residency_reason(before: Facts, after: Facts, text: TextReadings) -> Reason | None:
    """Say that personal data narrowed how far the content may travel, where it did."""
    if not text.personal_data or before.policy.stated or before.policy.residency is after.policy.residency:
        return None
    kinds = ", ".join(sorted(text.personal_data))
    return Reason("personal_data", f"{kinds} in the prompt: residency {after.policy.residency.upper()}")
