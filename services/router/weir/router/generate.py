"""The data plane: decide, stream from the chosen tier, let another eligible one take over if it is down."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator
from contextlib import aclosing

import structlog

from weir.common.context import current_call
from weir.common.errors import ErrorCode, WeirError
from weir.router import spans
from weir.router.classifier.text import routing_text
from weir.router.control.controller import Controller
from weir.router.domain import Ask, Decision, Finished, Handover, Reason, Tier, TierFinished
from weir.router.facts import affinity_key
from weir.router.faults import OTHER_REPLICA, OTHER_TIER, TIER_FAILS, mid_stream
from weir.router.fleet import Fleet
from weir.router.jobs import JobFactory
from weir.router.live.outcomes import Outcomes
from weir.router.metrics import RouterMetrics
from weir.router.planner import Plan, Planner
from weir.router.progress import Progress
from weir.router.receipts.convert import Feedback
from weir.router.receipts.store import ReceiptStore
from weir.router.statistics import Statistics
from weir.router.upstreams.streams import STREAMS, TierEvent
from weir.v1 import types_pb2

MAX_REPLICAS_TRIED = 2
Event = Decision | types_pb2.TokenDelta | Handover | Finished
log = structlog.get_logger(__name__)


class DataPlane:
    """Answers requests. Knows no transport but the deltas, which it passes on as they came."""

    def __init__(
        self,
        planner: Planner,
        fleet: Fleet,
        jobs: JobFactory,
        store: ReceiptStore,
        statistics: Statistics,
        metrics: RouterMetrics,
        controller: Controller,
        outcomes: Outcomes,
    ) -> None:
        self._planner = planner
        self._fleet = fleet
        self._jobs = jobs
        self._store = store
        self._statistics = statistics
        self._metrics = metrics
        self._controller = controller
        self._outcomes = outcomes

    async def route(self, ask: Ask) -> Decision:
        """Return the decision alone. Raises WeirError (see ``Planner.plan``)."""
        return (await self._plan(ask, generated=False)).decision

    async def generate(self, ask: Ask) -> AsyncGenerator[Event]:
        """Stream one Decision, then deltas with any hand-overs, then one Finished.

        Raises:
            WeirError: as ``Planner.plan``; what the last tier said; STREAM_BROKEN after the first delta.
        """
        progress = Progress()
        plan = await self._plan(ask, generated=True)
        how = "cancelled"
        try:
            yield plan.decision
            async with aclosing(self._answer(plan, progress)) as events:
                async for event in events:
                    yield event
            how = "finished"
        except WeirError as error:
            how = error.code
            raise
        finally:
            self._store.finish(plan.decision.decision_id, progress.outcome(how))
            self._outcomes.answered(plan.decision, how, progress, current_call().tenant)

    async def label(self, decision_id: str, feedback: Feedback) -> None:
        """Keep what the caller found of an answer. Raises WeirError UNKNOWN_DECISION."""
        decision = await self._store.label(decision_id, feedback, tenant=current_call().tenant)
        self._outcomes.labeled(decision, feedback)

    async def _plan(self, ask: Ask, *, generated: bool) -> Plan:
        plan = await self._planner.plan(ask)
        spans.decided(plan.decision, stand_in=plan.states[plan.decision.tier].stand_in)
        self._store.record(
            plan.decision,
            plan.facts,
            request_id=ask.request_id,
            tenant=current_call().tenant,
            prompt=routing_text(ask.prompt.messages) if self._store.keeps_prompts else None,
            generated=generated,
        )
        return plan

    async def _answer(self, plan: Plan, progress: Progress) -> AsyncGenerator[Event]:
        """Try the tiers in the decision's order, none of which is outside the eligible ones."""
        left = list(plan.decision.order)
        while left:
            tier = left.pop(0)
            try:
                async with aclosing(self._try_tier(plan, tier, progress)) as events:
                    async for event in events:
                        yield event
            except WeirError as error:
                if progress.sent:
                    raise mid_stream(error) from error
                left = [other for other in left if self._fleet.pools[other].available]
                if not left or error.code not in OTHER_TIER:
                    raise
                handover = _takes_over(tier, left[0], error)
            else:
                return
            progress.handovers += 1
            spans.handed_over(handover)
            yield handover

    async def _try_tier(self, plan: Plan, tier: Tier, progress: Progress) -> AsyncGenerator[Event]:
        """Stream from a replica, and from another one if the first fails before its first token."""
        pool, tried = self._fleet.pools[tier], frozenset[str]()
        job, capped = self._jobs.build(plan, tier, progress.spent_usd)
        key = affinity_key(job.prompt)
        while True:
            progress.begin(tier)
            try:
                with pool.lease(key, tried) as replica:
                    tried |= {replica.address}
                    async with aclosing(STREAMS[tier](replica.channel, job)) as events:
                        async for event in events:
                            told = await self._tell(plan, progress, event, capped=capped)
                            if told is not None:
                                yield told
            except WeirError as error:
                progress.lose(tier, plan.states[tier].model, error)
                retry = error.code in OTHER_REPLICA and not progress.sent and len(tried) < MAX_REPLICAS_TRIED
                if not retry or not set(pool.addresses) - tried:
                    self._note_failure(plan, tier, error)
                    raise
                log.info("replica_failed_over", tier=tier, reason=error.code)
            else:
                return

    def _note_failure(self, plan: Plan, tier: Tier, error: WeirError) -> None:
        if error.code in TIER_FAILS:
            cost = float(error.metadata.get("cost_usd", 0.0))
            self._controller.observe(
                plan.decision.case, tier, first_token_s=math.inf, cost_usd=cost, failed=True
            )

    async def _tell(self, plan: Plan, progress: Progress, event: TierEvent, *, capped: bool) -> Event | None:
        """Turn a tier's event into the client's; ``None`` where there is nothing to tell."""
        if isinstance(event, types_pb2.TokenDelta):
            progress.take(event, keep_text=plan.check is not None)
            if plan.ask.token_detail:
                return event
            return types_pb2.TokenDelta(text=event.text, source=event.source) if event.text else None
        if isinstance(event, Handover):
            if event.source is not event.target:
                progress.handovers += 1
                progress.escalated = True
            spans.handed_over(event)
            return event
        return await self._finish(plan, progress, event, capped=capped)

    async def _finish(self, plan: Plan, progress: Progress, end: TierFinished, *, capped: bool) -> Finished:
        if plan.check is not None:
            violation = await asyncio.to_thread(plan.check, "".join(progress.text))
            progress.valid = violation is None
            if violation:
                log.warning(
                    "answer_breaks_constraint", decision_id=plan.decision.decision_id, tier=progress.tier
                )
        finished = progress.finish(plan, end, capped=capped)
        tier = progress.tier or plan.decision.tier
        for usage in finished.usage:
            self._fleet.saw(usage.tier, usage.model, stand_in=usage.stand_in)
        answer = progress.answer(tier, finished)
        self._statistics.add(answer)
        self._planner.answered(plan, tier, answer.first_token_s)
        self._metrics.answered(tier, finished, schema_valid=progress.valid)
        self._controller.observe(
            plan.decision.case,
            tier,
            first_token_s=answer.first_token_s,
            cost_usd=finished.cost_usd,
            handed_over=progress.escalated,
        )
        spans.answered(finished)
        return finished


def _takes_over(tier: Tier, target: Tier, error: WeirError) -> Handover:
    code = "long_context" if error.code is ErrorCode.CONTEXT_TOO_LONG else "tier_failed"
    log.warning("tier_handed_over", source=tier, target=target, reason=error.code)
    return Handover(tier, target, Reason(code, f"{tier.upper()} failed before its first token: {error.code}"))
