"""The decision engine alone: signals, a hundred rules, eligibility and choice, without the classifier.

uv run python benchmarks/decision_engine.py
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from weir.common.config import Settings
from weir.common.config.routing import Routing, Rule, RuleCondition
from weir.common.prompts import PromptSpec
from weir.engines.base import ChatMessage, Sampling
from weir.router.case import Bounds
from weir.router.classifier.base import Assessment, DomainShare, Judgment
from weir.router.domain import Policy, Tier, TierState
from weir.router.engine import DecisionEngine
from weir.router.facts import measure
from weir.router.signals.base import Observation
from weir.router.signals.conversation import ConversationMemory
from weir.router.signals.panel import Panel

RULES = 100
ROUNDS = 2_000
_PROMPT = "Summarize the attached minutes for the board and list who has to do what until when. " * 3
_LOCAL = frozenset({"json_schema", "regex", "choices", "grammar"})


@dataclass(frozen=True, slots=True)
class Timing:
    """Microseconds a call takes."""

    median_us: float
    p95_us: float


def rules(count: int = RULES) -> list[Rule]:
    """Return rules that all have to be looked at: nearly every condition is met, and most narrow."""
    kinds = (
        RuleCondition(min_prompt_tokens=1, domains=["business"], languages=["en"]),
        RuleCondition(max_complexity=0.9, min_turns=1, personal_data=["card"]),
        RuleCondition(domains=["law", "medicine"], domain_probability=0.3),
        RuleCondition(constraints=["json_schema"], min_complexity=0.2),
        RuleCondition(latency_budget_below_ms=100, max_prompt_tokens=4_000),
    )
    return [
        Rule(name=f"rule {n}", when=kinds[n % len(kinds)], allow=["slm", "hybrid", "frontier"])
        for n in range(count)
    ]


def states() -> dict[Tier, TierState]:
    """Return three healthy tiers."""
    return {
        tier: TierState(
            tier,
            tier.value,
            max_context=32_768,
            constraints=_LOCAL,
            output_usd_per_million=10.0 if tier is Tier.FRONTIER else 0.0,
            first_token_s=0.1,
            latency_s=1.0,
        )
        for tier in Tier
    }


def measure_engine(count: int = RULES, rounds: int = ROUNDS) -> dict[str, Timing]:
    """Time the engine and the signals around it on one CPU.

    Returns:
        ``engine``: tenants, rules, eligibility, estimates and choice; ``signals``: all that are read anew for
        each request; ``text``: language and personal data of a prompt that was not seen before.
    """
    settings = Settings(routing=Routing(rules=rules(count)))
    engine, panel = DecisionEngine(settings), Panel(0.5, ConversationMemory())
    prompt = PromptSpec((ChatMessage("user", _PROMPT),), Sampling(), None)
    assessment = Assessment(0.4, 0.2, 60, (DomainShare("business", 0.8), DomainShare("law", 0.2)))
    facts = measure(prompt, Policy())
    seen = Observation(prompt, facts, "acme", _PROMPT, states(), Judgment(assessment, "none"))
    text = asyncio.run(panel.read_text(seen))
    readings = panel.read(seen, text)

    def decide() -> None:
        narrowed, allowed = engine.admit(seen, text)
        engine.decide(replace(seen, facts=narrowed), readings, allowed, Bounds())

    return {
        "engine": _timed(decide, rounds),
        "signals": _timed(lambda: panel.write(panel.read(seen, text)), rounds),
        "text": _timed(lambda: Panel(0.5, ConversationMemory()).read_now(seen), rounds // 4),
    }


def _timed(work: Callable[[], object], rounds: int) -> Timing:
    took = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        took.append((time.perf_counter() - started) * 1e6)
    return Timing(statistics.median(took), statistics.quantiles(took, n=20)[-1])


if __name__ == "__main__":
    for part, timing in measure_engine().items():
        print(f"{part:8} median {timing.median_us:7.1f} us   p95 {timing.p95_us:7.1f} us")
