"""The decision engine: whatever is configured and measured, nothing widens what a request allows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from tests.unit.test_router_choice import STATES, bounds_strategy, fleets, policies, unit
from weir.common.config import ConfigError, Settings
from weir.common.config.model import Tiers
from weir.common.config.routing import Routing, Rule, RuleCondition
from weir.common.errors import ErrorCode, WeirError
from weir.common.prompts import PromptSpec
from weir.engines.base import ChatMessage, Sampling
from weir.router import eligibility
from weir.router.case import Bounds
from weir.router.classifier.base import Assessment, DomainShare, Judgment
from weir.router.domain import Facts, Policy, Residency, Tier, TierState
from weir.router.engine import DecisionEngine, Verdict
from weir.router.signals.base import Observation
from weir.router.signals.conversation import ConversationMemory
from weir.router.signals.language import Language
from weir.router.signals.panel import Panel, TextReadings

BOUNDS = Bounds()
EASY = Judgment(Assessment(0.1, 0.1, 3, ()), "r")
PROMPT = PromptSpec((ChatMessage("user", "Hello there"),), Sampling(), None)
ENGLISH = TextReadings(Language("en", ("latin",)), frozenset())
TIERS = st.lists(st.sampled_from(["slm", "hybrid", "frontier"]), max_size=3)
RESIDENCIES = st.none() | st.sampled_from(["local_only", "redacted", "any"])

conditions = st.builds(
    RuleCondition,
    tenants=st.lists(st.sampled_from(["acme", "other"]), max_size=1),
    domains=st.lists(st.sampled_from(["law", "math"]), max_size=2),
    languages=st.lists(st.sampled_from(["en", "de"]), max_size=1),
    personal_data=st.lists(st.sampled_from(["email", "any"]), max_size=1),
    constraints=st.lists(st.sampled_from(["json_schema", "any"]), max_size=1),
    min_prompt_tokens=st.none() | st.integers(0, 50),
    max_complexity=st.none() | unit,
    min_turns=st.none() | st.integers(1, 2),
    latency_budget_below_ms=st.none() | st.floats(1, 5_000),
)
rules: st.SearchStrategy[dict[str, Any]] = st.builds(
    dict,
    when=conditions,
    allow=TIERS,
    residency=RESIDENCIES,
    prefer=st.none() | st.sampled_from(["slm", "hybrid", "frontier"]),
)
tenant_policies: st.SearchStrategy[dict[str, Any]] = st.builds(
    dict,
    residency=RESIDENCIES,
    allow=TIERS,
    max_cost_usd=st.none() | st.floats(0, 0.1),
    latency_budget_ms=st.none() | st.floats(1, 5_000),
    target=st.none() | st.builds(dict, quality=unit),
)
judgments = st.builds(
    lambda c, g, share, by: Judgment(Assessment(c, g, 3, (DomainShare("law", share),)), "r", by),
    unit,
    st.floats(-1, 1),
    unit,
    st.sampled_from(["classifier", "cascade", "cache", "prior"]),
)
texts = st.builds(
    lambda code, kinds: TextReadings(Language(code, ("latin",)), frozenset(kinds)),
    st.sampled_from(["en", "de", "und"]),
    st.lists(st.sampled_from(["email", "card"]), max_size=2),
)
facts_strategy = st.builds(
    Facts,
    prompt_tokens=st.integers(1, 200_000),
    max_tokens=st.none() | st.integers(1, 10_000),
    constraint=st.none() | st.just("json_schema"),
    policy=st.builds(lambda policy, stated: replace(policy, stated=stated), policies, st.booleans()),
)


def engine(found: list[dict[str, Any]], tenants: dict[str, Any] | None = None, **more: Any) -> DecisionEngine:
    named = [Rule(name=f"rule {index}", **rule) for index, rule in enumerate(found)]
    routing = Routing.model_validate({"rules": named, "tenants": tenants or {}, **more})
    return DecisionEngine(Settings(routing=routing))


def decide(
    deciding: DecisionEngine,
    facts: Facts,
    states: dict[Tier, TierState] = STATES,
    judgment: Judgment = EASY,
    text: TextReadings = ENGLISH,
    bounds: Bounds = BOUNDS,
    tenant: str = "acme",
) -> Verdict | None:
    """Decide as the planner does; ``None`` where the request is refused."""
    seen = Observation(PROMPT, facts, tenant, "Hello there", states, judgment)
    try:
        narrowed, allowed = deciding.admit(seen, text)
        seen = replace(seen, facts=narrowed)
        return deciding.decide(seen, Panel(0.5, ConversationMemory()).read(seen, text), allowed, bounds)
    except WeirError:
        return None


worlds = st.tuples(facts_strategy, fleets(), judgments, texts, bounds_strategy)


@examples(max_examples=120, deadline=None)
@given(st.lists(rules, max_size=4), tenant_policies, RESIDENCIES.filter(bool), worlds)
def test_nothing_widens_what_the_request_allows(
    found: list[dict[str, Any]], tenant: dict[str, Any], personal: str, world: Any
) -> None:
    facts, states, judgment, text, bounds = world
    try:
        deciding = engine(found, {"acme": tenant}, personal_data_residency=personal)
    except ConfigError:
        return
    verdict = decide(deciding, facts, states, judgment, text, bounds)
    if verdict is None:
        return
    asked = set(eligibility.assess(facts, states).eligible)
    assert set(verdict.selection.order) <= set(verdict.case.eligible) <= asked
    assert set(verdict.case.eligible) <= set(verdict.case.estimates)
    if Residency.LOCAL_ONLY in (facts.policy.residency, verdict.facts.policy.residency):
        assert Tier.FRONTIER not in verdict.selection.order
    if facts.policy.max_cost_usd is not None:
        assert (verdict.facts.policy.max_cost_usd or 0) <= facts.policy.max_cost_usd


@examples(max_examples=120, deadline=None)
@given(st.lists(rules, max_size=3), rules, worlds)
def test_adding_a_rule_never_adds_a_tier(
    found: list[dict[str, Any]], another: dict[str, Any], world: Any
) -> None:
    try:
        before, after = engine(found), engine([*found, another])
    except ConfigError:
        return
    one, other = decide(before, *world), decide(after, *world)
    if other is not None and one is not None:
        assert set(other.case.eligible) <= set(one.case.eligible)
    facts, states, *_ = world
    if other is not None:
        assert set(other.case.eligible) <= set(eligibility.assess(facts, states).eligible)


FACTS = Facts(20, None, None, Policy(stated=False))
HARD = Judgment(Assessment(0.9, 0.4, 3, (DomainShare("law", 0.8),)), "r")


def order_of(verdict: Verdict | None) -> tuple[Tier, ...]:
    assert verdict is not None
    return verdict.selection.order


def test_personal_data_narrows_a_request_that_states_no_residency() -> None:
    text = replace(ENGLISH, personal_data=frozenset({"email"}))
    local = engine([], personal_data_residency="local_only")
    assert order_of(decide(local, FACTS, judgment=HARD))[0] is Tier.FRONTIER
    assert Tier.FRONTIER not in order_of(decide(local, FACTS, judgment=HARD, text=text))
    stated = replace(FACTS, policy=Policy(stated=True))
    assert order_of(decide(local, stated, judgment=HARD, text=text))[0] is Tier.FRONTIER
    redacted = decide(engine([]), FACTS, judgment=HARD, text=text)
    assert redacted is not None
    assert redacted.facts.policy.residency is Residency.REDACTED


def test_personal_data_never_widens_a_narrower_default() -> None:
    text = replace(ENGLISH, personal_data=frozenset({"email"}))
    facts = replace(FACTS, policy=Policy(residency=Residency.LOCAL_ONLY, stated=False))
    verdict = decide(engine([], personal_data_residency="any"), facts, text=text)
    assert verdict is not None
    assert verdict.facts.policy.residency is Residency.LOCAL_ONLY


def test_all_matching_rules_narrow_and_the_first_that_prefers_is_followed() -> None:
    deciding = engine(
        [
            {"when": {"domains": ["law"]}, "allow": ["slm", "frontier"]},
            {"when": {"tenants": ["other"]}, "prefer": "hybrid"},
            {"when": {"min_complexity": 0.5}, "prefer": "slm"},
            {"prefer": "frontier"},
        ]
    )
    verdict = decide(deciding, FACTS, judgment=HARD)
    assert order_of(verdict) == (Tier.SLM, Tier.FRONTIER)
    assert verdict is not None
    assert verdict.matching == ("rule 0", "rule 2", "rule 3")
    assert verdict.allowed.why_not(Tier.HYBRID) is not None


def test_tenant_policy_is_the_narrower_of_both() -> None:
    policy = {"max_cost_usd": 0.02, "latency_budget_ms": 300, "residency": "redacted"}
    deciding = engine([], {"acme": policy})
    asked = replace(FACTS, policy=Policy(max_cost_usd=0.05, latency_budget_s=0.2))
    verdict = decide(deciding, asked)
    assert verdict is not None
    held = verdict.facts.policy
    assert (held.max_cost_usd, held.latency_budget_s, held.residency) == (0.02, 0.2, Residency.REDACTED)
    other = decide(deciding, asked, tenant="other")
    assert other is not None
    assert other.facts.policy.max_cost_usd == 0.05


def test_tenant_has_a_threshold_or_a_target_of_its_own() -> None:
    deciding = engine([], {"acme": {"complexity_threshold": 0.95}, "other": {"target": {"quality": 0.99}}})
    assert order_of(decide(deciding, FACTS, judgment=HARD))[0] is Tier.HYBRID
    verdict = decide(deciding, FACTS, judgment=HARD, tenant="other")
    assert verdict is not None
    assert (verdict.bounds.mode, verdict.bounds.quality) == ("quality", 0.99)


def test_rules_that_leave_no_tier_are_named_in_the_refusal() -> None:
    deciding = engine(
        [
            {"when": {"domains": ["law"]}, "residency": "local_only"},
            {"when": {"min_complexity": 0.8}, "allow": ["frontier"]},
        ]
    )
    seen = Observation(PROMPT, FACTS, "", "Hello there", STATES, HARD)
    facts, allowed = deciding.admit(seen, ENGLISH)
    seen = replace(seen, facts=facts)
    readings = Panel(0.5, ConversationMemory()).read(seen, ENGLISH)
    with pytest.raises(WeirError) as caught:
        deciding.decide(seen, readings, allowed, Bounds())
    assert caught.value.code is ErrorCode.NO_ELIGIBLE_TIER
    assert "rule 'rule 0' keeps the content" in caught.value.hint
    assert "SLM: rule 'rule 1' leaves it out" in caught.value.hint


def test_adapter_is_found_by_request_by_rule_and_by_the_classifiers_domain() -> None:
    states = {**STATES, Tier.SLM: replace(STATES[Tier.SLM], adapters=(("law", "lora-law"), ("tax", "")))}
    plain, ruled = engine([]), engine([{"adapter": "tax"}])
    medium = Judgment(Assessment(0.5, 0.2, 3, (DomainShare("law", 0.8),)), "r")
    found = decide(plain, FACTS, states, medium)
    assert found is not None
    assert (found.domain, order_of(found)[0]) == ("law", Tier.SLM)
    assert order_of(decide(plain, FACTS, states, HARD))[0] is Tier.FRONTIER
    by_rule = decide(ruled, FACTS, states, medium)
    assert by_rule is not None
    assert by_rule.domain == "tax"
    unlikely = Judgment(Assessment(0.5, 0.2, 3, (DomainShare("law", 0.4),)), "r")
    none = decide(plain, FACTS, states, unlikely)
    assert none is not None
    assert (none.domain, order_of(none)[0]) == (None, Tier.HYBRID)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"when": {"languages": ["english"]}}, "unknown language 'english'; did you mean 'en'"),
        ({"when": {"personal_data": ["e-mail"]}}, "did you mean 'email'"),
        ({"when": {"constraints": ["json"]}}, "did you mean 'json_schema'"),
        ({"allow": ["frontier"], "residency": "local_only"}, "'rule 0' leave no tier together"),
        ({"adapter": "lawx"}, "unknown adapter 'lawx'; did you mean 'law'"),
        ({"when": {"domains": ["mth"]}}, "unknown domain 'mth'; did you mean 'math'"),
    ],
)
def test_rule_that_cannot_be_followed_is_a_config_error(rule: dict[str, Any], message: str) -> None:
    routing = Routing.model_validate({"rules": [{"name": "rule 0", **rule}]})
    tiers = Tiers.model_validate({"slm": {"domains": {"law": "lora"}}})
    with pytest.raises(ConfigError, match=message):
        DecisionEngine(Settings(routing=routing, tiers=tiers), domains=["math", "law"])


def test_rules_of_one_condition_must_leave_a_tier_together() -> None:
    with pytest.raises(ConfigError, match="'rule 0', 'rule 1' leave no tier together"):
        engine([{"allow": ["slm"]}, {"when": {"tenants": ["acme"]}, "allow": ["hybrid"]}])
    with pytest.raises(ConfigError, match="names two rules"):
        DecisionEngine(Settings(routing=Routing(rules=[Rule(name="a"), Rule(name="a")])))


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ({"allow": ["frontier"], "residency": "local_only"}, "leave no tier"),
        ({"target": {"cost": 0.01}}, "only a quality can be held for one tenant"),
        ({"target": {"quality": 0.8}, "complexity_threshold": 0.5}, "either target or"),
    ],
)
def test_tenant_policy_that_cannot_be_held_is_a_config_error(policy: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        engine([], {"acme": policy})


def test_cheap_refusal_comes_before_the_classifier() -> None:
    down = {tier: replace(state, reachable=False) for tier, state in STATES.items()}
    with pytest.raises(WeirError) as caught:
        engine([]).admit(Observation(PROMPT, FACTS, "", "Hello", down), ENGLISH)
    assert caught.value.code is ErrorCode.TIER_UNAVAILABLE
