"""Which tiers may answer a request at all. Pure; whatever is decided later can only shrink this set.

Tenants, personal data and rules narrow the facts before (see ``policy.limits``): what they take away is
barred.

The checks run in the order of ``_CHECKS``, the policy's first and the present health last, so that a tier
excluded as ``unavailable`` is one that would otherwise have been allowed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from weir.common.errors import ErrorCode, WeirError
from weir.router import pricing
from weir.router.domain import Exclusion, Facts, Policy, Reason, Residency, Tier, TierState


@dataclass(frozen=True, slots=True)
class Eligibility:
    """The tiers that may answer, and the others with their reasons, both cheapest first."""

    eligible: tuple[Tier, ...]
    exclusions: tuple[Exclusion, ...]

    def why_not(self, tier: Tier) -> Reason | None:
        """Return why a tier may not answer."""
        return next((exclusion.reason for exclusion in self.exclusions if exclusion.tier is tier), None)


def check_policy(policy: Policy) -> None:
    """Refuse a policy that no tier could ever keep. Raises WeirError INVALID_POLICY."""
    if policy.residency is Residency.LOCAL_ONLY and policy.allowed == {Tier.FRONTIER}:
        problem = "LOCAL_ONLY forbids the frontier, the only tier allowed"
        raise WeirError(
            ErrorCode.INVALID_POLICY,
            f"{problem}; allow SLM or HYBRID, or relax the residency.",
            fields={"policy.residency": problem, "policy.allowed_tiers": problem},
        )


def check_domain(policy: Policy, states: Mapping[Tier, TierState]) -> None:
    """Refuse a domain that nothing was tuned for. Raises WeirError UNKNOWN_ADAPTER."""
    known = sorted({domain for state in states.values() for domain, _ in state.adapters})
    if policy.domain and policy.domain not in known:
        names = ", ".join(known) if known else "none is configured"
        raise WeirError(
            ErrorCode.UNKNOWN_ADAPTER,
            f"No model or adapter serves the domain '{policy.domain[:80]}' (known: {names}).",
            fields={"policy.domain": "unknown"},
        )


def assess(facts: Facts, states: Mapping[Tier, TierState]) -> Eligibility:
    """Split the tiers into eligible ones and exclusions."""
    eligible: list[Tier] = []
    exclusions: list[Exclusion] = []
    for tier in Tier:
        found = (check(facts, states[tier]) for check in _CHECKS)
        reason = next((reason for reason in found if reason), None)
        if reason:
            exclusions.append(Exclusion(tier, reason))
        else:
            eligible.append(tier)
    return Eligibility(tuple(eligible), tuple(exclusions))


def refuse(result: Eligibility) -> WeirError:
    """Build the error for a request that no tier may answer: the one whose remedy is nearest."""
    listed = "; ".join(f"{e.tier.upper()}: {e.reason.detail}" for e in result.exclusions)
    facts = {e.tier.value: e.reason.code for e in result.exclusions}
    codes = set(facts.values())
    for code, error in _REFUSALS.items():
        if code in codes:
            return WeirError(error, f"{listed}.", metadata=facts)
    return WeirError(ErrorCode.NO_ELIGIBLE_TIER, f"{listed}.", metadata=facts)


def refuse_fallback() -> WeirError:
    """Build the error for a request for which the frontier could only take over, and may not."""
    hint = "Only the frontier is left, and tiers.frontier.fallback_enabled forbids it to take over."
    return WeirError(ErrorCode.TIER_UNAVAILABLE, hint)


_REFUSALS = {
    "unavailable": ErrorCode.TIER_UNAVAILABLE,
    "context_too_long": ErrorCode.CONTEXT_TOO_LONG,
    "cost_limit": ErrorCode.COST_LIMIT,
}


def _allowed(facts: Facts, state: TierState) -> Reason | None:
    if state.tier in facts.policy.allowed:
        return None
    return Reason("not_allowed", "the policy's allowed_tiers leave it out")


def _barred(facts: Facts, state: TierState) -> Reason | None:
    return facts.barred.get(state.tier)


def _residency(facts: Facts, state: TierState) -> Reason | None:
    if state.tier is Tier.FRONTIER and facts.policy.residency is Residency.LOCAL_ONLY:
        return Reason("residency", "the content must not leave this installation")
    return None


def _configured(facts: Facts, state: TierState) -> Reason | None:
    del facts
    return None if state.configured else Reason("not_configured", "no address is configured for it")


def _domain(facts: Facts, state: TierState) -> Reason | None:
    domain = facts.policy.domain
    if not domain or domain in dict(state.adapters):
        return None
    return Reason("domain_unsupported", f"it has no model or adapter for the domain '{domain}'")


def _constraint(facts: Facts, state: TierState) -> Reason | None:
    if facts.constraint is None or facts.constraint in state.constraints:
        return None
    return Reason("constraint_unsupported", f"it cannot decode under a {facts.constraint} constraint")


def _context(facts: Facts, state: TierState) -> Reason | None:
    answer = pricing.answer_limit(state, facts)
    if facts.prompt_tokens + answer <= state.max_context:
        return None
    sizes = f"about {facts.prompt_tokens} prompt tokens and {answer} for the answer"
    return Reason("context_too_long", f"{sizes} exceed its context of {state.max_context}")


def _cost(facts: Facts, state: TierState) -> Reason | None:
    limit = facts.policy.max_cost_usd
    least = pricing.least_cost_usd(state, facts)
    if limit is None or least <= limit:
        return None
    return Reason("cost_limit", f"even a short answer costs ${least:.6f}, more than max_cost_usd")


def _reachable(facts: Facts, state: TierState) -> Reason | None:
    del facts
    return None if state.reachable else Reason("unavailable", "no replica of it is healthy now")


_CHECKS: tuple[Callable[[Facts, TierState], Reason | None], ...] = (
    _allowed, _barred, _residency, _configured, _domain, _constraint, _context, _cost, _reachable,
)  # fmt: skip
