"""From a request to a decision: eligibility first, then the classifier, then the engine's choice."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Protocol

from weir.common.config import Settings
from weir.common.context import current_call
from weir.router import eligibility
from weir.router.case import Bounds
from weir.router.classifier.base import Assessment, Judge, Judgment, Question
from weir.router.classifier.text import routing_text
from weir.router.constraints import Checker, checker
from weir.router.domain import Ask, Decision, Facts, Reason, Tier, TierState
from weir.router.engine import DecisionEngine, Verdict, residency_reason
from weir.router.facts import measure
from weir.router.fleet import Fleet
from weir.router.policy.revision import policy_revision
from weir.router.signals import language
from weir.router.signals.base import Observation
from weir.router.signals.conversation import ConversationMemory
from weir.router.signals.panel import Panel, Readings

_NOTES = {
    "classifier_slow": "the classifier did not answer within its time limit",
    "classifier_failed": "the classifier failed",
    "classifier_busy": "too many prompts wait for the classifier",
    "cascade_slow": "the larger classifier did not answer within the time limit",
    "cascade_failed": "the larger classifier failed",
    "cascade_busy": "too many prompts wait for the larger classifier",
}


class BoundsInForce(Protocol):
    """Who says what the choice is bound by now."""

    def bounds(self) -> Bounds: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Plan:
    """A decision with what it was made from.

    ``facts`` holds the policy in force, which every hop has to keep. ``check`` is there where the answer can
    be checked; ``adapter`` is the one that serves the prompt's domain in the SLM, empty for the base model.
    """

    ask: Ask
    facts: Facts
    states: Mapping[Tier, TierState]
    decision: Decision
    check: Checker | None
    adapter: str
    tenant: str = ""

    @property
    def signal(self) -> Assessment:
        """What the classifier says."""
        return self.decision.judgment.assessment


class Planner:
    """A component: starts the judge and decides with it.

    Args:
        settings: the whole configuration.
        fleet: the tiers.
        controller: holds the bounds in force.
        judge: the classifiers.
        domains: that the classifier can name; rules that name others are refused where this is given.
    """

    def __init__(
        self,
        settings: Settings,
        fleet: Fleet,
        controller: BoundsInForce,
        judge: Judge,
        domains: Collection[str] | None = None,
    ) -> None:
        self._tiers, self._fleet = settings.tiers, fleet
        self._controller, self._judge = controller, judge
        self._memory = ConversationMemory()
        self._panel = Panel(settings.tiers.hybrid.recovered_gain, self._memory)
        self._engine = DecisionEngine(settings, domains)
        self._revisions = {"policy": policy_revision(settings), "program": version("weir")}

    async def start(self) -> None:
        """Load what judges and identifies. Raises WeirError MODEL_UNAVAILABLE."""
        await asyncio.gather(self._judge.start(), asyncio.to_thread(language.warm_up))

    async def aclose(self) -> None:
        """Stop the judge; idempotent."""
        await self._judge.aclose()

    async def plan(self, ask: Ask) -> Plan:
        """Decide who answers.

        Raises:
            WeirError: INVALID_POLICY, INVALID_CONSTRAINT, UNKNOWN_ADAPTER, CONTEXT_TOO_LONG, COST_LIMIT,
                TIER_UNAVAILABLE or NO_ELIGIBLE_TIER.
        """
        eligibility.check_policy(ask.policy)
        states, tenant = self._fleet.states(), current_call().tenant
        eligibility.check_domain(ask.policy, states)
        asked = measure(ask.prompt, ask.policy)
        seen = Observation(ask.prompt, asked, tenant, routing_text(ask.prompt.messages), states)
        self._engine.admit(seen)
        question = Question(seen.text, tenant, ask.request_id, keep=not ask.policy.no_store)
        judging = asyncio.ensure_future(self._judge.judge(question))
        try:
            # The classifier's thread works while this one reads the text; should that leave no tier, the
            # question is taken back.
            await asyncio.sleep(0)
            text = await self._panel.read_text(seen)
            facts, allowed = self._engine.admit(seen, text)
            check = await self._checker(ask)
            judgment = await judging
        finally:
            judging.cancel()
        seen = replace(seen, facts=facts, judgment=judgment)
        readings = self._panel.read(seen, text)
        verdict = self._engine.decide(seen, readings, allowed, self._controller.bounds())
        reasons = [*_noted(judgment), *filter(None, [residency_reason(asked, facts, text)])]
        decision = self._decision(verdict, judgment, readings, states, reasons)
        adapter = dict(states[Tier.SLM].adapters).get(verdict.domain or "", "")
        return Plan(ask, verdict.facts, states, decision, check, adapter, tenant)

    def answered(self, plan: Plan, tier: Tier, first_token_s: float) -> None:
        """Remember which tier now holds the conversation; ``first_token_s`` counts from that tier's start."""
        if not plan.ask.policy.no_store:
            self._memory.answered(plan.ask.prompt, plan.tenant, tier, plan.facts.prompt_tokens, first_token_s)

    async def _checker(self, ask: Ask) -> Checker | None:
        constraint = ask.prompt.constraint
        return None if constraint is None else await asyncio.to_thread(checker, constraint)

    def _decision(
        self,
        verdict: Verdict,
        judgment: Judgment,
        readings: Readings,
        states: Mapping[Tier, TierState],
        reasons: list[Reason],
    ) -> Decision:
        order = verdict.selection.order
        chosen, estimate = states[order[0]], verdict.case.estimates[order[0]]
        reasons += verdict.selection.reasons
        if chosen.stand_in:
            reasons.append(self._stand_in(chosen))
        return Decision(
            decision_id=uuid.uuid4().hex,
            order=order,
            model=chosen.model,
            complexity=verdict.case.complexity,
            confidence=verdict.selection.confidence,
            estimated_latency_s=estimate.total_s,
            estimated_cost_usd=estimate.cost_usd,
            reasons=tuple(reasons),
            exclusions=verdict.allowed.exclusions,
            case=verdict.case,
            bounds=verdict.bounds,
            judgment=judgment,
            signals=self._signals(verdict, judgment, readings),
            revisions={"classifier": judgment.revision, **self._revisions},
        )

    def _signals(
        self, verdict: Verdict, judgment: Judgment, readings: Readings
    ) -> tuple[tuple[str, str], ...]:
        beside = {
            "judged_by": judgment.by,
            "rules": ",".join(verdict.matching),
            "adapter": verdict.domain or "",
        }
        return (*self._panel.write(readings), *((name, value) for name, value in beside.items() if value))

    def _stand_in(self, state: TierState) -> Reason:
        hybrid = state.tier is Tier.HYBRID
        wanted = self._tiers.hybrid.verifier_model if hybrid else self._fleet.tiers[state.tier].model_id
        answerer = "a local stand-in" if state.model == wanted else state.model
        return Reason("stand_in", f"{answerer} answers for {wanted}, which is not configured here")


def _noted(judgment: Judgment) -> list[Reason]:
    if not judgment.note:
        return []
    detail = _NOTES.get(judgment.note, "the classifier could not be asked")
    stands_in = "; the mean over its training prompts stands in" if judgment.by == "prior" else ""
    return [Reason(judgment.note, detail + stands_in)]
