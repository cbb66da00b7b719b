"""What the server span tells of a decision and its answer."""

from __future__ import annotations

from weir.common import conventions as names
from weir.common.context import current_call
from weir.router.domain import Decision, Finished, Handover


def decided(decision: Decision, *, stand_in: bool) -> None:
    """Note a decision on the present RPC's span."""
    current_call().span.set_attributes(
        {
            names.DECISION_ID: decision.decision_id,
            names.TIER: decision.tier.value,
            names.MODEL: decision.model,
            names.COMPLEXITY: decision.complexity,
            names.COMPLEXITY_THRESHOLD: decision.complexity_threshold,
            names.CONFIDENCE: decision.confidence,
            names.REASONS: [reason.code for reason in decision.reasons],
            names.EXCLUSIONS: [f"{e.tier.value}:{e.reason.code}" for e in decision.exclusions],
            names.CLASSIFIER_REVISION: decision.classifier_revision,
            names.STAND_IN: stand_in,
        }
    )


def handed_over(handover: Handover) -> None:
    """Note that another tier took over."""
    span = current_call().span
    span.add_event(
        "handoff",
        {
            names.FROM_TIER: handover.source.value,
            names.TO_TIER: handover.target.value,
            names.REASONS: [handover.reason.code],
        },
    )
    span.set_attribute(names.TIER, handover.target.value)


def answered(finished: Finished) -> None:
    """Note the end of an answer."""
    current_call().span.set_attributes(
        {
            names.FINISH_REASONS: [finished.finish.value],
            names.INPUT_TOKENS: sum(usage.prompt_tokens for usage in finished.usage),
            names.OUTPUT_TOKENS: sum(usage.completion_tokens for usage in finished.usage),
            names.COST_USD: finished.cost_usd,
            names.FRONTIER_COST_USD: finished.frontier_cost_usd,
            names.STAND_IN: any(usage.stand_in for usage in finished.usage),
            names.REPLAY: any(usage.replay for usage in finished.usage),
        }
    )
