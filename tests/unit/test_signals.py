"""The signals: what each reads, that none tells the text, and that odd prompts harm none."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from tests.unit.test_router_choice import STATES
from weir.common.prompts import PromptSpec
from weir.engines.base import ChatMessage, Constraint, Sampling
from weir.router.classifier.base import Assessment, DomainShare, Judgment
from weir.router.classifier.text import routing_text
from weir.router.domain import Facts, Policy, Tier, TierState
from weir.router.estimates import estimates
from weir.router.facts import measure
from weir.router.signals.base import Observation
from weir.router.signals.conversation import KEPT_FOR_S, MAX_CONVERSATIONS, ConversationMemory
from weir.router.signals.language import identify, known_languages
from weir.router.signals.panel import Panel
from weir.router.signals.prefill import FEWEST_SAMPLES, PrefillRate

JUDGED = Judgment(
    Assessment(0.4, 0.3, 9, (DomainShare("math", 0.8), DomainShare("physics", 0.6), DomainShare("law", 0.2))),
    "r",
)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def prompt(*turns: str, constraint: Constraint | None = None) -> PromptSpec:
    roles = ("user", "assistant")
    messages = tuple(ChatMessage(roles[i % 2], turn) for i, turn in enumerate(turns))  # type: ignore[arg-type]
    return PromptSpec(messages, Sampling(), constraint)


def seen(
    spec: PromptSpec, states: dict[Tier, TierState] = STATES, policy: Policy | None = None
) -> Observation:
    facts = measure(spec, policy or Policy())
    return Observation(spec, facts, "acme", routing_text(spec.messages), states, JUDGED)


async def written(observation: Observation, memory: ConversationMemory | None = None) -> dict[str, str]:
    panel = Panel(0.5, memory or ConversationMemory())
    pairs = panel.write(panel.read(observation, await panel.read_text(observation)))
    assert len({name for name, _ in pairs}) == len(pairs)
    return dict(pairs)


async def test_all_signals_are_written_as_kinds_counts_and_codes() -> None:
    spec = prompt(
        "Schreibe bitte an ada@example.org, dass die Sitzung am Montag stattfindet.",
        constraint=Constraint("json_schema", ("{}",)),
    )
    found = await written(seen(spec))
    assert found == {
        "complexity": "0.4000",
        "gain": "hybrid=0.15,frontier=0.3",
        "prompt_tokens": str(seen(spec).facts.prompt_tokens),
        "context_fits": "slm,hybrid,frontier",
        "constraint": "json_schema",
        "domain": "math,physics",
        "language": "de",
        "personal_data": "email",
        "turns": "1",
        "healthy": "slm,hybrid,frontier",
        "in_flight": "slm=0,hybrid=0,frontier=0",
    }


@examples(max_examples=60, deadline=None)
@given(st.text(alphabet=st.characters(codec="utf-8"), min_size=12, max_size=300))
async def test_no_signal_tells_a_word_of_the_prompt(text: str) -> None:
    marked = f"{text} xylophonequark"
    values = " ".join((await written(seen(prompt(marked)))).values())
    assert "xylophonequark" not in values
    assert len(values) < 200


@pytest.mark.parametrize(
    ("text", "code", "scripts"),
    [
        ("How do I reset my password?", "en", ("latin",)),
        ("Wie kann ich mein Passwort zurücksetzen?", "de", ("latin",)),
        ("Как мне сбросить пароль?", "ru", ("cyrillic",)),
        ("如何重置我的密码", "zh", ("han",)),
        ("비밀번호를 어떻게 재설정하나요?", "ko", ("hangul",)),
        ("日本語で書かれた質問です。", "ja", ("kana", "han")),
        ("ξένη Ελλάδα", "el", ("greek",)),
        ("2 + 2 = ?", "und", ()),
        ("", "und", ()),
        ("😀😀😀", "und", ()),
        ("\ud800 broken", "und", ("latin",)),
    ],
)
def test_language_and_scripts_are_told(text: str, code: str, scripts: tuple[str, ...]) -> None:
    found = identify(text)
    assert (found.code, set(found.scripts)) == (code, set(scripts))
    assert found.code in known_languages()


def test_mixed_scripts_are_all_told_and_a_quotation_is_not() -> None:
    mixed = identify("Translate this: как мне сбросить пароль, пожалуйста")
    assert set(mixed.scripts) == {"latin", "cyrillic"}
    assert identify("What does the Greek letter π mean in this rather long sentence?").scripts == ("latin",)


def test_language_of_a_huge_text_is_read_from_a_sample() -> None:
    assert identify("Das ist ein Satz auf Deutsch, und noch einer. " * 20_000).code == "de"


async def test_personal_data_of_a_long_or_numeric_text_is_read_in_a_thread_with_the_same_result() -> None:
    filler = "Nothing to see here. " * 1_000
    assert (await written(seen(prompt(f"{filler} ada@example.org"))))["personal_data"] == "email"
    assert (await written(seen(prompt("Call me at +44 20 7946 0958."))))["personal_data"] == "phone"


async def test_readings_of_a_text_are_kept_unless_nothing_may_be() -> None:
    panel = Panel(0.5, ConversationMemory())
    first = await panel.read_text(seen(prompt("What is a weir?")))
    assert await panel.read_text(seen(prompt("What is a weir?"))) is first
    private = seen(prompt("What is a levee?"), policy=Policy(no_store=True))
    assert await panel.read_text(private) is not await panel.read_text(private)


def test_stand_in_is_expected_to_add_nothing() -> None:
    states = {**STATES, Tier.FRONTIER: replace(STATES[Tier.FRONTIER], stand_in=True)}
    panel = Panel(0.5, ConversationMemory())
    observation = seen(prompt("Hi there"), states)
    readings = panel.read(observation, panel.read_now(observation))
    assert readings.gain == {Tier.HYBRID: 0.15, Tier.FRONTIER: 0.0}


def test_queue_raises_the_expected_latency_above_the_measured_one() -> None:
    slow = replace(STATES[Tier.SLM], first_token_s=0.1, latency_s=2.0, waiting=6, capacity=4)
    panel = Panel(0.5, ConversationMemory())
    observation = seen(prompt("Hi there"), {**STATES, Tier.SLM: slow})
    readings = panel.read(observation, panel.read_now(observation))
    assert readings.load[Tier.SLM].expected_first_token_s == 3.0
    assert readings.load[Tier.HYBRID].expected_first_token_s is None


def test_leaving_the_tier_that_holds_the_conversation_costs_time_and_money() -> None:
    clock = Clock()
    memory = ConversationMemory(clock)
    for tokens in range(100, 100 + FEWEST_SAMPLES * 10, 10):
        memory.answered(
            prompt(f"An unrelated question {tokens}"), "acme", Tier.SLM, tokens, 0.2 + tokens / 1000
        )
    talk = prompt("First question " * 50, "First answer", "Second question")
    facts = measure(talk, Policy())
    memory.answered(prompt("First question " * 50), "acme", Tier.FRONTIER, facts.prompt_tokens, 0.5)
    frontier = replace(STATES[Tier.FRONTIER], cached_input_usd_per_million=1.0, first_token_s=0.5)
    states = {
        **STATES,
        Tier.FRONTIER: frontier,
        Tier.SLM: replace(STATES[Tier.SLM], first_token_s=0.3, latency_s=1.0),
    }
    observation = seen(talk, states)
    panel = Panel(0.5, memory)
    readings = panel.read(observation, panel.read_now(observation))
    conversation = readings.conversation
    assert (conversation.turns, conversation.holder) == (2, Tier.FRONTIER)
    assert conversation.lost_s[Tier.SLM] == pytest.approx(facts.prompt_tokens / 1000, rel=0.01)
    assert conversation.lost_usd == pytest.approx(facts.prompt_tokens * 1.5 / 1e6)
    expected = estimates(Tier, states, facts, readings)
    fresh = estimates(Tier, states, facts, replace(readings, conversation=replace(conversation, holder=None)))
    assert expected[Tier.FRONTIER].cost_usd == pytest.approx(
        fresh[Tier.FRONTIER].cost_usd - conversation.lost_usd
    )
    assert expected[Tier.SLM].first_token_s == pytest.approx(0.3 + conversation.lost_s[Tier.SLM])
    assert expected[Tier.FRONTIER].first_token_s == 0.5


def test_conversation_is_forgotten_after_a_while_by_others_and_when_there_are_too_many() -> None:
    clock = Clock()
    memory = ConversationMemory(clock)
    memory.answered(prompt("Hello"), "acme", Tier.SLM, 10, 0.1)
    assert memory.read(seen(prompt("Hello"))).holder is Tier.SLM
    assert memory.read(replace(seen(prompt("Hello")), tenant="other")).holder is None
    clock.now += KEPT_FOR_S
    assert memory.read(seen(prompt("Hello"))).holder is None
    clock.now -= KEPT_FOR_S
    for number in range(MAX_CONVERSATIONS):
        memory.answered(prompt(f"Question {number}"), "acme", Tier.SLM, 10, 0.1)
    assert memory.read(seen(prompt("Hello"))).holder is None


@given(st.lists(st.tuples(st.integers(1, 10_000), st.floats(0, 100)), max_size=60))
def test_prefill_rate_is_never_negative(samples: list[tuple[int, float]]) -> None:
    rate = PrefillRate()
    for tokens, seconds in samples:
        rate.add(tokens, seconds)
    assert 0 <= rate.seconds_per_token < float("inf")


def test_estimated_quality_stays_within_bounds() -> None:
    panel = Panel(1.0, ConversationMemory())
    facts = Facts(10, None, None, Policy())
    for complexity, gain in ((0.0, 1.0), (1.0, -1.0), (0.5, 0.2)):
        judgment = Judgment(Assessment(complexity, gain, 3, ()), "r")
        observation = replace(seen(prompt("Hi there")), judgment=judgment)
        readings = panel.read(observation, panel.read_now(observation))
        found = estimates(Tier, STATES, facts, readings)
        assert all(0 <= estimate.quality <= 1 for estimate in found.values())
        assert found[Tier.SLM].quality == 1 - complexity
