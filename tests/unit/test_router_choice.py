"""Eligibility and selection: what may answer, what answers, and that the second never widens the first."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.common.errors import ErrorCode, WeirError
from weir.router import eligibility, pricing
from weir.router.case import Bounds, Case, Estimate
from weir.router.domain import ALL_TIERS, Facts, Policy, Residency, Tier, TierState
from weir.router.selection import select

LOCAL = frozenset({"json_schema", "regex", "choices", "grammar"})
STATES = {
    Tier.SLM: TierState(Tier.SLM, "small", max_context=4096, constraints=LOCAL),
    Tier.HYBRID: TierState(Tier.HYBRID, "middle", max_context=8192, constraints=LOCAL),
    Tier.FRONTIER: TierState(
        Tier.FRONTIER,
        "large",
        max_context=128_000,
        default_max_tokens=1024,
        constraints=frozenset({"json_schema"}),
        input_usd_per_million=2.5,
        output_usd_per_million=10,
    ),
}
BOUNDS = Bounds()
FACTS = Facts(prompt_tokens=20, max_tokens=None, constraint=None, policy=Policy())

unit = st.floats(0, 1)
optional_seconds = st.none() | st.floats(0.001, 10)
policies = st.builds(
    Policy,
    residency=st.sampled_from(Residency),
    allowed=st.frozensets(st.sampled_from(Tier), min_size=1),
    max_cost_usd=st.none() | st.floats(0, 0.1),
    latency_budget_s=optional_seconds,
    domain=st.sampled_from(["", "legal"]),
)
facts_strategy = st.builds(
    Facts,
    prompt_tokens=st.integers(1, 200_000),
    max_tokens=st.none() | st.integers(1, 10_000),
    constraint=st.none() | st.sampled_from(sorted(LOCAL)),
    policy=policies,
)


@st.composite
def fleets(draw: st.DrawFn) -> dict[Tier, TierState]:
    return {
        tier: replace(
            state,
            configured=draw(st.booleans()),
            reachable=draw(st.booleans()),
            adapters=draw(st.sampled_from([(), (("legal", "legal"),)])),
            first_token_s=draw(optional_seconds),
        )
        for tier, state in STATES.items()
    }


bounds_strategy = st.builds(
    Bounds,
    mode=st.sampled_from(["thresholds", "quality", "cost", "latency"]),
    complexity=unit,
    confidence=unit,
    quality=unit,
    least_gain=unit,
    latency_budget_s=st.floats(0.001, 10),
    strict_schema=st.booleans(),
    frontier_fallback=st.booleans(),
)


def case_of(
    complexity: float, facts: Facts = FACTS, states: dict[Tier, TierState] = STATES, **more: Any
) -> Case:
    """A case as the engine builds it, where HYBRID recovers half of the gain."""
    allowed = eligibility.assess(facts, states)
    gain = more.pop("gain", complexity / 2)
    gains = {Tier.SLM: 0.0, Tier.HYBRID: max(gain, 0) / 2, Tier.FRONTIER: gain}
    codes = {exclusion.tier: exclusion.reason.code for exclusion in allowed.exclusions}
    estimates = {
        tier: Estimate(
            quality=min(1.0, max(0.0, 1 - complexity + gains[tier])), first_token_s=states[tier].first_token_s
        )
        for tier in Tier
        if tier in allowed.eligible or codes[tier] == "unavailable"
    }
    pinned = "pinned" if len(allowed.eligible) == 1 and len(facts.policy.allowed) == 1 else ""
    return Case(
        complexity=complexity,
        gain=gain,
        eligible=allowed.eligible,
        exclusions=codes,
        estimates=estimates,
        constraint=facts.constraint,
        latency_budget_s=facts.policy.latency_budget_s,
        pinned=pinned,
        **more,
    )


@st.composite
def cases(draw: st.DrawFn) -> Case:
    return case_of(
        draw(unit),
        draw(facts_strategy),
        draw(fleets()),
        gain=draw(st.floats(-1, 1)),
        prefer=draw(st.none() | st.sampled_from(Tier)),
        adapted=draw(st.booleans()),
    )


@given(cases(), bounds_strategy)
def test_selection_never_widens_what_is_eligible(case: Case, bounds: Bounds) -> None:
    selection = select(case, bounds)
    assert set(selection.order) <= set(case.eligible)
    assert len(set(selection.order)) == len(selection.order)
    assert 0 <= selection.confidence <= 1
    assert selection.order or not case.eligible or not bounds.frontier_fallback
    assert selection.reasons or not selection.order


@given(cases(), bounds_strategy, unit, unit)
def test_higher_bar_never_picks_a_cheaper_tier(case: Case, bounds: Bounds, one: float, other: float) -> None:
    ranks = list(Tier)
    low, high = (select(case, replace(bounds, quality=bar)).order for bar in sorted([one, other]))
    if low and high:
        assert ranks.index(low[0]) <= ranks.index(high[0])


@given(facts_strategy, fleets())
def test_every_tier_is_either_eligible_or_excluded_with_a_reason(
    facts: Facts, states: dict[Tier, TierState]
) -> None:
    result = eligibility.assess(facts, states)
    excluded = [exclusion.tier for exclusion in result.exclusions]
    assert sorted([*result.eligible, *excluded]) == sorted(Tier)
    assert all(exclusion.reason.code and exclusion.reason.detail for exclusion in result.exclusions)


@given(facts_strategy, fleets())
def test_a_stricter_policy_only_shrinks_the_set(facts: Facts, states: dict[Tier, TierState]) -> None:
    relaxed = Policy(domain=facts.policy.domain)
    wide = eligibility.assess(replace(facts, policy=relaxed), states)
    assert set(eligibility.assess(facts, states).eligible) <= set(wide.eligible)


@pytest.mark.parametrize(
    ("facts", "tier", "code"),
    [
        (replace(FACTS, policy=Policy(allowed=frozenset({Tier.SLM}))), Tier.HYBRID, "not_allowed"),
        (replace(FACTS, policy=Policy(residency=Residency.LOCAL_ONLY)), Tier.FRONTIER, "residency"),
        (replace(FACTS, policy=Policy(domain="legal")), Tier.SLM, "domain_unsupported"),
        (replace(FACTS, constraint="grammar"), Tier.FRONTIER, "constraint_unsupported"),
        (replace(FACTS, prompt_tokens=4000), Tier.SLM, "context_too_long"),
        (replace(FACTS, max_tokens=4090), Tier.SLM, "context_too_long"),
        (replace(FACTS, policy=Policy(max_cost_usd=0.0001)), Tier.FRONTIER, "cost_limit"),
    ],
)
def test_exclusion_has_its_stable_code(facts: Facts, tier: Tier, code: str) -> None:
    reason = eligibility.assess(facts, STATES).why_not(tier)
    assert reason is not None
    assert reason.code == code


@pytest.mark.parametrize(
    ("facts", "states", "code"),
    [
        (FACTS, {t: replace(s, reachable=False) for t, s in STATES.items()}, ErrorCode.TIER_UNAVAILABLE),
        (replace(FACTS, prompt_tokens=500_000), STATES, ErrorCode.CONTEXT_TOO_LONG),
        (
            replace(FACTS, policy=Policy(max_cost_usd=0, allowed=frozenset({Tier.FRONTIER}))),
            STATES,
            ErrorCode.COST_LIMIT,
        ),
        (
            replace(FACTS, constraint="grammar", policy=Policy(allowed=frozenset({Tier.FRONTIER}))),
            STATES,
            ErrorCode.NO_ELIGIBLE_TIER,
        ),
    ],
)
def test_refusal_names_the_nearest_remedy(
    facts: Facts, states: dict[Tier, TierState], code: ErrorCode
) -> None:
    result = eligibility.assess(facts, states)
    assert not result.eligible
    error = eligibility.refuse(result)
    assert error.code is code
    assert all(tier.upper() in error.hint for tier in Tier)


def test_local_only_with_the_frontier_alone_contradicts_itself() -> None:
    with pytest.raises(WeirError) as caught:
        eligibility.check_policy(Policy(Residency.LOCAL_ONLY, frozenset({Tier.FRONTIER})))
    assert caught.value.code is ErrorCode.INVALID_POLICY
    assert set(caught.value.fields) == {"policy.residency", "policy.allowed_tiers"}


def test_unknown_domain_names_the_known_ones() -> None:
    states = {**STATES, Tier.SLM: replace(STATES[Tier.SLM], adapters=(("legal", "a"),))}
    with pytest.raises(WeirError, match="legal") as caught:
        eligibility.check_domain(Policy(domain="cooking"), states)
    assert caught.value.code is ErrorCode.UNKNOWN_ADAPTER


def chosen(
    complexity: float,
    facts: Facts = FACTS,
    states: dict[Tier, TierState] = STATES,
    bounds: Bounds = BOUNDS,
    **more: Any,
) -> tuple[Tier, list[str]]:
    selection = select(case_of(complexity, facts, states, **more), bounds)
    return selection.order[0], [reason.code for reason in selection.reasons]


@pytest.mark.parametrize(
    ("complexity", "tier", "code"),
    [
        (0.0, Tier.SLM, "low_complexity"),
        (0.34, Tier.SLM, "low_complexity"),
        (0.36, Tier.HYBRID, "low_confidence"),
        (0.71, Tier.HYBRID, "low_confidence"),
        (0.72, Tier.FRONTIER, "high_complexity"),
        (1.0, Tier.FRONTIER, "high_complexity"),
    ],
)
def test_thresholds_map_complexity_to_tiers(complexity: float, tier: Tier, code: str) -> None:
    assert chosen(complexity) == (tier, [code])


@given(unit, unit)
def test_harder_prompts_never_get_a_cheaper_tier(one: float, other: float) -> None:
    easy, hard = sorted([one, other])
    tiers = list(Tier)
    assert tiers.index(chosen(easy)[0]) <= tiers.index(chosen(hard)[0])


def test_constraint_keeps_the_answer_where_decoding_enforces_it() -> None:
    facts = replace(FACTS, constraint="json_schema")
    assert chosen(0.1, facts) == (Tier.SLM, ["schema_constrained"])
    assert chosen(0.95, facts) == (Tier.HYBRID, ["schema_constrained"])
    assert chosen(0.95, facts, bounds=replace(BOUNDS, strict_schema=False))[0] is Tier.FRONTIER


def test_long_context_moves_up() -> None:
    assert chosen(0.1, replace(FACTS, prompt_tokens=5000)) == (
        Tier.HYBRID,
        ["low_complexity", "long_context"],
    )
    assert chosen(0.1, replace(FACTS, prompt_tokens=50_000))[0] is Tier.FRONTIER


def test_pinned_tier_is_not_weighed() -> None:
    facts = replace(FACTS, policy=Policy(allowed=frozenset({Tier.HYBRID})))
    assert chosen(0.99, facts) == (Tier.HYBRID, ["pinned"])


@pytest.mark.parametrize(
    ("complexity", "down", "instead"),
    [(0.1, Tier.SLM, Tier.HYBRID), (0.5, Tier.HYBRID, Tier.FRONTIER), (0.9, Tier.FRONTIER, Tier.HYBRID)],
)
def test_successor_of_an_excluded_tier(complexity: float, down: Tier, instead: Tier) -> None:
    states = {**STATES, down: replace(STATES[down], reachable=False)}
    tier, codes = chosen(complexity, states=states)
    assert tier is instead
    assert codes[-1] == "fallback_excluded"


def test_frontier_does_not_take_over_where_that_is_forbidden() -> None:
    states = {**STATES, Tier.HYBRID: replace(STATES[Tier.HYBRID], reachable=False)}
    assert chosen(0.5, states=states, bounds=replace(BOUNDS, frontier_fallback=False))[0] is Tier.SLM
    assert chosen(0.9, states=states, bounds=replace(BOUNDS, frontier_fallback=False))[0] is Tier.FRONTIER


def test_own_latency_budget_moves_any_choice_and_the_default_only_likely_ones() -> None:
    slow = {**STATES, **{t: replace(STATES[t], first_token_s=1.0) for t in (Tier.HYBRID, Tier.FRONTIER)}}
    hurried = replace(FACTS, policy=Policy(latency_budget_s=0.2))
    assert chosen(0.9, hurried, slow) == (Tier.SLM, ["high_complexity", "latency_budget"])
    assert chosen(0.9, states=slow) == (Tier.FRONTIER, ["high_complexity"])
    assert chosen(0.6, states=slow) == (Tier.HYBRID, ["low_confidence"])
    assert chosen(0.4, states=slow) == (Tier.SLM, ["low_confidence", "latency_budget"])


def test_budget_that_nobody_meets_changes_nothing() -> None:
    slow = {tier: replace(state, first_token_s=1.0) for tier, state in STATES.items()}
    assert chosen(0.9, replace(FACTS, policy=Policy(latency_budget_s=0.1)), slow)[0] is Tier.FRONTIER


CRITICAL = replace(FACTS, policy=Policy(latency_budget_s=0.05))


@pytest.mark.parametrize("mode", ["thresholds", "quality"])
def test_critical_latency_is_answered_locally_whatever_else(mode: Any) -> None:
    bounds = replace(BOUNDS, mode=mode, quality=1.0, least_gain=0.0)
    assert chosen(0.9, CRITICAL, bounds=bounds)[0] in (Tier.SLM, Tier.HYBRID)
    slow = {tier: replace(state, first_token_s=1.0) for tier, state in STATES.items()}
    quicker = {**slow, Tier.HYBRID: replace(slow[Tier.HYBRID], first_token_s=0.5)}
    assert chosen(0.9, CRITICAL, quicker, bounds)[0] is Tier.HYBRID
    assert chosen(0.9, CRITICAL, bounds=bounds, prefer=Tier.FRONTIER)[0] in (Tier.SLM, Tier.HYBRID)


def test_critical_latency_goes_to_the_frontier_where_no_local_tier_may_answer() -> None:
    facts = replace(CRITICAL, prompt_tokens=50_000)
    assert chosen(0.1, facts)[0] is Tier.FRONTIER


def test_adapted_small_model_goes_before_the_general_one_but_not_before_the_frontier() -> None:
    assert chosen(0.5, adapted=True) == (Tier.SLM, ["low_confidence", "domain_adapter"])
    assert chosen(0.8, adapted=True) == (Tier.FRONTIER, ["high_complexity"])


def test_preferred_tier_is_followed_where_it_is_eligible() -> None:
    assert chosen(0.1, prefer=Tier.FRONTIER) == (Tier.FRONTIER, ["rule_preferred"])
    local = replace(FACTS, policy=Policy(Residency.LOCAL_ONLY))
    assert chosen(0.1, local, prefer=Tier.FRONTIER) == (Tier.SLM, ["low_complexity"])


# With complexity 0.5 and gain 0.4: SLM 0.5, HYBRID 0.7, FRONTIER 0.9.
@pytest.mark.parametrize(
    ("bar", "tier", "code"),
    [
        (0.4, Tier.SLM, "quality_target"),
        (0.6, Tier.HYBRID, "quality_target"),
        (0.8, Tier.FRONTIER, "quality_target"),
        (0.95, Tier.FRONTIER, "best_quality"),
    ],
)
def test_cheapest_tier_that_reaches_the_bar_is_taken(bar: float, tier: Tier, code: str) -> None:
    bounds = replace(BOUNDS, mode="quality", quality=bar)
    assert chosen(0.5, bounds=bounds, gain=0.4) == (tier, [code])


def test_tier_that_hardly_adds_quality_is_not_worth_it() -> None:
    bounds = replace(BOUNDS, mode="quality", quality=0.9, least_gain=0.05)
    assert chosen(0.5, bounds=bounds, gain=0.04) == (Tier.SLM, ["best_quality"])
    assert chosen(0.5, bounds=bounds, gain=-0.2) == (Tier.SLM, ["best_quality"])
    # The frontier adds 0.08 to the SLM's answer, but only 0.04 to HYBRID's.
    assert chosen(0.5, bounds=bounds, gain=0.08) == (Tier.HYBRID, ["best_quality"])


@pytest.mark.parametrize("mode", ["cost", "latency"])
@pytest.mark.parametrize(("dial", "tier"), [(0.5, Tier.SLM), (0.7, Tier.HYBRID), (0.9, Tier.FRONTIER)])
def test_held_cost_buys_dear_answers_where_they_gain_most(mode: Any, dial: float, tier: Tier) -> None:
    bounds = replace(BOUNDS, mode=mode, quality=dial)
    assert chosen(0.5, bounds=bounds, gain=0.4) == (tier, [f"{mode}_target"])
    assert chosen(0.95, bounds=bounds, gain=0.04)[0] is Tier.SLM


def test_quality_is_sought_within_the_stated_budget_and_else_the_quickest_local_tier_taken() -> None:
    bounds = replace(BOUNDS, mode="quality", quality=0.8)
    slow = {**STATES, Tier.FRONTIER: replace(STATES[Tier.FRONTIER], first_token_s=1.0)}
    hurried = replace(FACTS, policy=Policy(latency_budget_s=0.5))
    assert chosen(0.5, hurried, slow, bounds, gain=0.4)[0] is Tier.HYBRID
    all_slow = {tier: replace(state, first_token_s=2.0) for tier, state in STATES.items()}
    all_slow[Tier.SLM] = replace(all_slow[Tier.SLM], first_token_s=1.5)
    assert chosen(0.5, hurried, all_slow, bounds, gain=0.4)[0] is Tier.SLM


def test_frontier_does_not_take_over_for_a_tier_that_would_have_done() -> None:
    down = {**STATES, **{t: replace(STATES[t], reachable=False) for t in (Tier.SLM, Tier.HYBRID)}}
    strict = replace(BOUNDS, mode="quality", quality=0.6, frontier_fallback=False)
    assert select(case_of(0.5, states=down, gain=0.4), strict).order == ()
    assert select(case_of(0.9, states=down, gain=0.4), strict).order == (Tier.FRONTIER,)


@given(st.floats(0, 1), st.integers(0, 100_000))
def test_affordable_tokens_never_exceed_the_limit(limit: float, prompt_tokens: int) -> None:
    state = STATES[Tier.FRONTIER]
    tokens = pricing.affordable_tokens(state, prompt_tokens, limit)
    assert tokens is not None
    spent = pricing.cost_usd(state, prompt_tokens, tokens)
    assert tokens == 0 or spent <= limit + 1e-9


def test_expected_cost_uses_the_measured_length_within_what_is_allowed() -> None:
    state = replace(STATES[Tier.FRONTIER], mean_completion_tokens=100.0)
    assert pricing.expected_cost_usd(state, FACTS) == pytest.approx((20 * 2.5 + 100 * 10) / 1e6)
    assert pricing.expected_cost_usd(state, replace(FACTS, max_tokens=10)) == pytest.approx(
        (20 * 2.5 + 100) / 1e6
    )


def test_all_tiers_are_the_default() -> None:
    assert Policy().allowed == ALL_TIERS
