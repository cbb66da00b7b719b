"""From a request to a decision: eligibility first, then the classifier, then the choice."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import structlog

from weir.common.config import Settings
from weir.common.errors import ErrorCode, WeirError
from weir.router import eligibility, pricing
from weir.router.adjustment import ThresholdController
from weir.router.classifier import Assessment, routing_text
from weir.router.constraints import Checker, checker
from weir.router.domain import Ask, Decision, Facts, Reason, Tier, TierState
from weir.router.facts import measure
from weir.router.fleet import Fleet
from weir.router.selection import Selection, Thresholds, select

CLASSIFIER_THREADS = 2
log = structlog.get_logger(__name__)


class PromptClassifier(Protocol):
    """What assesses prompts; ``classify`` blocks."""

    @property
    def revision(self) -> str: ...  # noqa: D102
    def classify(self, text: str) -> Assessment: ...  # noqa: D102


# Loads a classifier's artifact, the packaged one where no folder is given; blocks.
LoadClassifier = Callable[[Path | None], PromptClassifier]


@dataclass(frozen=True, slots=True)
class Plan:
    """A decision with what it was made from. ``check`` is there where the answer can be checked."""

    ask: Ask
    facts: Facts
    states: Mapping[Tier, TierState]
    signal: Assessment
    decision: Decision
    check: Checker | None

    @property
    def adapter(self) -> str:
        """The adapter that serves the pinned domain; empty for the base model."""
        return dict(self.states[Tier.SLM].adapters).get(self.ask.policy.domain, "")


class Planner:
    """A component: loads the classifier and decides with it."""

    def __init__(
        self, settings: Settings, fleet: Fleet, controller: ThresholdController, load: LoadClassifier
    ) -> None:
        self._load = load
        self._folder: Path | None = settings.routing.classifier
        self._routing = settings.routing
        self._tiers = settings.tiers
        self._fleet = fleet
        self._controller = controller
        self._classifier: PromptClassifier | None = None
        self._threads: ThreadPoolExecutor | None = None

    async def start(self) -> None:
        """Load and warm the classifier. Raises WeirError MODEL_UNAVAILABLE."""
        self._threads = ThreadPoolExecutor(CLASSIFIER_THREADS, "weir-classifier")
        loop = asyncio.get_running_loop()
        self._classifier = await loop.run_in_executor(self._threads, self._load, self._folder)
        log.info("classifier_loaded", revision=self._classifier.revision)

    async def aclose(self) -> None:
        """Stop the threads; idempotent."""
        threads, self._threads = self._threads, None
        if threads:
            await asyncio.to_thread(threads.shutdown)

    async def plan(self, ask: Ask) -> Plan:
        """Decide who answers.

        Raises:
            WeirError: INVALID_POLICY, INVALID_CONSTRAINT, UNKNOWN_ADAPTER, CONTEXT_TOO_LONG, COST_LIMIT,
                TIER_UNAVAILABLE or NO_ELIGIBLE_TIER.
        """
        eligibility.check_policy(ask.policy)
        states = self._fleet.states()
        eligibility.check_domain(ask.policy, states)
        facts = measure(ask.prompt, ask.policy)
        allowed = eligibility.assess(facts, states)
        if not allowed.eligible:
            raise eligibility.refuse(allowed)
        check = await self._checker(ask)
        signal = await self._classify(ask)
        selection = select(facts, signal, allowed, states, self._thresholds())
        if not selection.order:
            hint = "Only the frontier is left, and tiers.frontier.fallback_enabled forbids it to take over."
            raise WeirError(ErrorCode.TIER_UNAVAILABLE, hint)
        decision = self._decide(facts, signal, allowed, states, selection)
        return Plan(ask, facts, states, signal, decision, check)

    def _thresholds(self) -> Thresholds:
        return Thresholds(
            complexity=self._controller.threshold,
            confidence=self._routing.fallback_on_confidence_below,
            latency_budget_s=self._routing.latency_budget_ms / 1000,
            strict_schema=self._tiers.slm.output_schema_strict,
            frontier_fallback=self._tiers.frontier.fallback_enabled,
        )

    async def _checker(self, ask: Ask) -> Checker | None:
        constraint = ask.prompt.constraint
        return None if constraint is None else await asyncio.to_thread(checker, constraint)

    async def _classify(self, ask: Ask) -> Assessment:
        if self._classifier is None or self._threads is None:
            raise WeirError(ErrorCode.SHUTTING_DOWN)
        work = partial(self._classifier.classify, routing_text(ask.prompt.messages))
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def _decide(
        self,
        facts: Facts,
        signal: Assessment,
        allowed: eligibility.Eligibility,
        states: Mapping[Tier, TierState],
        selection: Selection,
    ) -> Decision:
        chosen = states[selection.order[0]]
        reasons = selection.reasons
        if chosen.stand_in:
            reasons += (self._stand_in(chosen),)
        return Decision(
            decision_id=uuid.uuid4().hex,
            order=selection.order,
            model=chosen.model,
            complexity=signal.complexity,
            confidence=selection.confidence,
            estimated_latency_s=chosen.latency_s,
            estimated_cost_usd=pricing.expected_cost_usd(chosen, facts),
            reasons=reasons,
            exclusions=allowed.exclusions,
            classifier_revision=self._classifier.revision if self._classifier else "",
            complexity_threshold=self._controller.threshold,
        )

    def _stand_in(self, state: TierState) -> Reason:
        hybrid = state.tier is Tier.HYBRID
        wanted = self._tiers.hybrid.verifier_model if hybrid else self._fleet.tiers[state.tier].model_id
        answerer = "a local stand-in" if state.model == wanted else state.model
        return Reason("stand_in", f"{answerer} answers for {wanted}, which is not configured here")
