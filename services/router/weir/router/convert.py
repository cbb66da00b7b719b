"""Protos to domain terms and back: the only place where they meet."""

from __future__ import annotations

import math

from google.protobuf import duration_pb2

from weir.common.errors import ErrorCode, WeirError
from weir.common.prompts import prompt_from_proto
from weir.router import domain as d
from weir.router.case import Estimate
from weir.router.receipts.convert import Feedback
from weir.v1 import router_pb2, types_pb2

_TIERS = {
    types_pb2.TIER_SLM: d.Tier.SLM,
    types_pb2.TIER_HYBRID: d.Tier.HYBRID,
    types_pb2.TIER_FRONTIER: d.Tier.FRONTIER,
}
TIER_VALUES = {tier: value for value, tier in _TIERS.items()}
_RESIDENCIES = {
    types_pb2.RESIDENCY_LOCAL_ONLY: d.Residency.LOCAL_ONLY,
    types_pb2.RESIDENCY_REDACTED: d.Residency.REDACTED,
    types_pb2.RESIDENCY_ANY: d.Residency.ANY,
}
RESIDENCY_VALUES = {residency: value for value, residency in _RESIDENCIES.items()}
_FINISHES = {
    types_pb2.FINISH_REASON_STOP: d.Finish.STOP,
    types_pb2.FINISH_REASON_LENGTH: d.Finish.LENGTH,
    types_pb2.FINISH_REASON_BUDGET: d.Finish.BUDGET,
}
_FINISH_VALUES = {finish: value for value, finish in _FINISHES.items()}
MAX_DOMAIN_CHARS = 128
MAX_COMMENT_CHARS = 4_000
MAX_REQUEST_ID_CHARS = 128


def ask_from_proto(
    request: router_pb2.GenerateRequest | router_pb2.RouteRequest,
    request_id: str,
    *,
    default_residency: d.Residency,
    max_prompt_bytes: int,
) -> d.Ask:
    """Convert and validate a request. Raises WeirError INVALID_… with the field's path."""
    detail = isinstance(request, router_pb2.GenerateRequest) and request.token_detail
    if len(request_id) > MAX_REQUEST_ID_CHARS:
        raise _bad_request("request_id", f"is longer than {MAX_REQUEST_ID_CHARS} characters")
    prompt = prompt_from_proto(request.prompt, max_bytes=max_prompt_bytes)
    return d.Ask(request_id, prompt, _policy(request.policy, default_residency), detail)


def _invalid(field: str, problem: str) -> WeirError:
    return WeirError(ErrorCode.INVALID_POLICY, f"{field}: {problem}.", fields={field: problem})


def _policy(policy: types_pb2.Policy, default: d.Residency) -> d.Policy:
    residency = _RESIDENCIES.get(policy.residency)
    if residency is None and policy.residency != types_pb2.RESIDENCY_UNSPECIFIED:
        raise _invalid("policy.residency", f"{policy.residency} is not a known value")
    unknown = [value for value in policy.allowed_tiers if value not in _TIERS]
    if unknown:
        raise _invalid("policy.allowed_tiers", f"{unknown[0]} is not a tier; name SLM, HYBRID or FRONTIER")
    cost = policy.max_cost_usd if policy.HasField("max_cost_usd") else None
    if cost is not None and not (math.isfinite(cost) and cost >= 0):
        raise _invalid("policy.max_cost_usd", "must be a number of at least 0")
    budget = _seconds(policy.latency_budget) if policy.HasField("latency_budget") else None
    if budget is not None and budget <= 0:
        raise _invalid("policy.latency_budget", "must be above 0")
    if len(policy.domain) > MAX_DOMAIN_CHARS:
        raise _invalid("policy.domain", f"is longer than {MAX_DOMAIN_CHARS} characters")
    return d.Policy(
        residency=residency or default,
        stated=residency is not None,
        allowed=frozenset(_TIERS[value] for value in policy.allowed_tiers) or d.ALL_TIERS,
        max_cost_usd=cost,
        latency_budget_s=budget,
        no_store=policy.no_store,
        domain=policy.domain,
    )


def feedback_from_proto(request: router_pb2.SendFeedbackRequest) -> Feedback:
    """Convert and validate a label. Raises WeirError INVALID_REQUEST with the field's path."""
    if not request.decision_id:
        raise _bad_request("decision_id", "is empty; send the decision_id of a Decision")
    score = request.score if request.HasField("score") else None
    if score is not None and not math.isfinite(score):
        raise _bad_request("score", "must be a finite number")
    if len(request.comment) > MAX_COMMENT_CHARS:
        raise _bad_request("comment", f"is longer than {MAX_COMMENT_CHARS} characters")
    acceptable = request.acceptable if request.HasField("acceptable") else None
    if acceptable is None and score is None and not request.comment:
        raise _bad_request("acceptable", "nothing is said; set acceptable, score or comment")
    return Feedback(acceptable, score, request.comment)


def _bad_request(field: str, problem: str) -> WeirError:
    return WeirError(ErrorCode.INVALID_REQUEST, f"{field}: {problem}.", fields={field: problem})


def decision_to_proto(decision: d.Decision) -> router_pb2.Decision:
    """Convert a decision."""
    proto = router_pb2.Decision(
        decision_id=decision.decision_id,
        tier=TIER_VALUES[decision.tier],
        model=decision.model,
        complexity=decision.complexity,
        confidence=decision.confidence,
        estimated_cost_usd=decision.estimated_cost_usd,
        reasons=[_reason(reason) for reason in decision.reasons],
        exclusions=[
            router_pb2.Exclusion(tier=TIER_VALUES[e.tier], reason=_reason(e.reason))
            for e in decision.exclusions
        ],
        classifier_revision=decision.classifier_revision,
        complexity_threshold=decision.complexity_threshold,
        estimates=[_estimate(tier, estimate) for tier, estimate in decision.estimates],
        signals=[router_pb2.Signal(name=name, value=value) for name, value in decision.signals],
    )
    if decision.estimated_latency_s is not None:
        proto.estimated_latency.CopyFrom(_duration(decision.estimated_latency_s))
    return proto


def event_to_proto(
    event: d.Decision | types_pb2.TokenDelta | d.Handover | d.Finished,
) -> router_pb2.GenerateResponse:
    """Convert one event of an answer. Deltas pass as they came: converting each would double its cost."""
    if isinstance(event, types_pb2.TokenDelta):
        return router_pb2.GenerateResponse(delta=event)
    if isinstance(event, d.Decision):
        return router_pb2.GenerateResponse(decision=decision_to_proto(event))
    if isinstance(event, d.Handover):
        handoff = router_pb2.Handoff(
            from_tier=TIER_VALUES[event.source],
            to_tier=TIER_VALUES[event.target],
            reason=_reason(event.reason),
            kept_tokens=event.kept_tokens,
            from_model=event.from_model,
            to_model=event.to_model,
        )
        return router_pb2.GenerateResponse(handoff=handoff)
    return router_pb2.GenerateResponse(finished=_finished(event))


def handover_from_proto(handoff: router_pb2.Handoff) -> d.Handover:
    """Convert a hand-over that an upstream reports."""
    reason = d.Reason(handoff.reason.code, handoff.reason.detail)
    source, target = (
        _TIERS.get(handoff.from_tier, d.Tier.HYBRID),
        _TIERS.get(handoff.to_tier, d.Tier.FRONTIER),
    )
    return d.Handover(source, target, reason, handoff.kept_tokens, handoff.from_model, handoff.to_model)


def usage_from_proto(usage: types_pb2.Usage, tier: d.Tier) -> d.Usage:
    """Convert one attempt's usage; ``tier`` is taken where the upstream names none."""
    return d.Usage(
        _TIERS.get(usage.tier, tier),
        usage.model,
        usage.prompt_tokens,
        usage.cached_prompt_tokens,
        usage.completion_tokens,
        usage.drafted_tokens,
        usage.accepted_tokens,
        usage.cost_usd,
        usage.stand_in,
        usage.passes,
        usage.cache_write_tokens,
        usage.reasoning_tokens,
        usage.provider,
        usage.replay,
    )


def tier_finished(
    finish: types_pb2.FinishReason.ValueType,
    usage: list[types_pb2.Usage],
    timing: types_pb2.Timing,
    tier: d.Tier,
) -> d.TierFinished:
    """Convert the end of an upstream's stream."""
    attempts = tuple(usage_from_proto(attempt, tier) for attempt in usage)
    return d.TierFinished(_FINISHES.get(finish, d.Finish.STOP), attempts, _seconds(timing.queue))


def _finished(event: d.Finished) -> router_pb2.Finished:
    timing = types_pb2.Timing(
        queue=_duration(event.queue_s),
        time_to_first_token=_duration(event.first_token_s),
        total=_duration(event.total_s),
    )
    return router_pb2.Finished(
        finish_reason=_FINISH_VALUES[event.finish],
        usage=[_usage(usage) for usage in event.usage],
        cost_usd=event.cost_usd,
        frontier_cost_usd=event.frontier_cost_usd,
        timing=timing,
        confidence=event.confidence,
    )


def _usage(usage: d.Usage) -> types_pb2.Usage:
    return types_pb2.Usage(
        tier=TIER_VALUES[usage.tier],
        model=usage.model,
        prompt_tokens=usage.prompt_tokens,
        cached_prompt_tokens=usage.cached_prompt_tokens,
        completion_tokens=usage.completion_tokens,
        drafted_tokens=usage.drafted_tokens,
        accepted_tokens=usage.accepted_tokens,
        cost_usd=usage.cost_usd,
        stand_in=usage.stand_in,
        passes=usage.passes,
        cache_write_tokens=usage.cache_write_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        provider=usage.provider,
        replay=usage.replay,
    )


def _estimate(tier: d.Tier, estimate: Estimate) -> router_pb2.Estimate:
    latency = None if estimate.first_token_s is None else _duration(estimate.first_token_s)
    return router_pb2.Estimate(
        tier=TIER_VALUES[tier], quality=estimate.quality, latency=latency, cost_usd=estimate.cost_usd
    )


def _reason(reason: d.Reason) -> router_pb2.Reason:
    return router_pb2.Reason(code=reason.code, detail=reason.detail)


def _duration(seconds: float) -> duration_pb2.Duration:
    duration = duration_pb2.Duration()
    duration.FromNanoseconds(max(0, int(seconds * 1e9)))
    return duration


def _seconds(duration: duration_pb2.Duration) -> float:
    return duration.seconds + duration.nanos / 1e9
