"""The only place where this service's protos meet its own types."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import date

from weir.common.config.base import ResidencyName
from weir.common.context import current_call
from weir.common.errors import ErrorCode, WeirError
from weir.common.prompts import PromptSpec, prompt_from_proto, prompt_to_proto
from weir.engines.base import FinishReason
from weir.frontier_proxy.breaker import CircuitState
from weir.frontier_proxy.domain import (
    AttemptUsage,
    Done,
    Finish,
    ForwardSpec,
    Switched,
    TokenCounts,
    to_nano,
    to_usd,
)
from weir.frontier_proxy.ledger.base import BudgetState, SpendQuery, SpendRow
from weir.frontier_proxy.providers.base import (
    REPLAY_MARK,
    Delta,
    Finished,
    ProviderEvent,
    ProviderRequest,
)
from weir.frontier_proxy.selection import ModelStatus
from weir.v1 import frontier_proxy_pb2 as pb
from weir.v1 import router_pb2, slm_worker_pb2, types_pb2

_RESIDENCIES: dict[int, ResidencyName | None] = {
    types_pb2.RESIDENCY_UNSPECIFIED: None,
    types_pb2.RESIDENCY_LOCAL_ONLY: "local_only",
    types_pb2.RESIDENCY_REDACTED: "redacted",
    types_pb2.RESIDENCY_ANY: "any",
}
_FINISHES = {
    Finish.STOP: types_pb2.FINISH_REASON_STOP,
    Finish.LENGTH: types_pb2.FINISH_REASON_LENGTH,
    Finish.BUDGET: types_pb2.FINISH_REASON_BUDGET,
}
_CIRCUITS = {
    CircuitState.CLOSED: pb.CIRCUIT_CLOSED,
    CircuitState.OPEN: pb.CIRCUIT_OPEN,
    CircuitState.HALF_OPEN: pb.CIRCUIT_HALF_OPEN,
}


def forward_spec(request: pb.ForwardRequest, max_prompt_bytes: int) -> ForwardSpec:
    """Validate a request.

    Raises:
        WeirError: INVALID_PROMPT, INVALID_SAMPLING, INVALID_CONSTRAINT or INVALID_POLICY with field paths.
    """
    call = current_call()
    if request.residency not in _RESIDENCIES:
        raise _bad_policy("residency", "is not a known value")
    limit = request.max_cost_usd if request.HasField("max_cost_usd") else None
    if limit is not None and not (math.isfinite(limit) and 0 <= limit <= 1e9):
        raise _bad_policy("max_cost_usd", "must be a finite number of US dollars, at least 0")
    return ForwardSpec(
        request_id=request.request_id or call.request_id,
        tenant=call.tenant,
        prompt=prompt_from_proto(request.prompt, max_bytes=max_prompt_bytes),
        model=request.model,
        residency=_RESIDENCIES[request.residency],
        max_cost_nano=None if limit is None else to_nano(limit),
        continue_from=request.continue_from,
    )


def _bad_policy(path: str, problem: str) -> WeirError:
    return WeirError(ErrorCode.INVALID_POLICY, f"{path} {problem}.", fields={path: problem})


def forward_response(event: str | Switched | Done) -> pb.ForwardResponse:
    """Convert new text, a change of models, or the end."""
    if isinstance(event, str):
        return pb.ForwardResponse(delta=types_pb2.TokenDelta(text=event, source=types_pb2.SOURCE_FRONTIER))
    if isinstance(event, Switched):
        return pb.ForwardResponse(handoff=_handoff(event))
    finished = pb.FrontierFinished(
        finish_reason=_FINISHES[event.finish], usage=[_usage(attempt) for attempt in event.usage]
    )
    finished.timing.time_to_first_token.FromNanoseconds(round(event.first_token_s * 1e9))
    finished.timing.total.FromNanoseconds(round(event.total_s * 1e9))
    return pb.ForwardResponse(finished=finished)


def _handoff(switched: Switched) -> router_pb2.Handoff:
    return router_pb2.Handoff(
        from_tier=types_pb2.TIER_FRONTIER,
        to_tier=types_pb2.TIER_FRONTIER,
        reason=router_pb2.Reason(code=switched.code, detail=switched.detail),
        kept_tokens=switched.kept_tokens,
        from_model=switched.from_model,
        to_model=switched.to_model,
    )


def _usage(attempt: AttemptUsage) -> types_pb2.Usage:
    return types_pb2.Usage(
        tier=types_pb2.TIER_FRONTIER,
        model=attempt.model,
        prompt_tokens=attempt.counts.prompt,
        cached_prompt_tokens=attempt.counts.cached,
        completion_tokens=attempt.counts.completion,
        cost_usd=to_usd(attempt.cost_nano),
        stand_in=attempt.stand_in,
        cache_write_tokens=attempt.counts.cache_write,
        reasoning_tokens=attempt.counts.reasoning,
        provider=attempt.provider,
        replay=attempt.replay,
    )


def frontier_model(status: ModelStatus) -> pb.FrontierModel:
    """Convert one entry of the list of models."""
    return pb.FrontierModel(
        model=status.model,
        provider=status.provider,
        input_usd_per_million=float(status.price.input),
        output_usd_per_million=float(status.price.output),
        max_context=status.price.max_context,
        available=status.available,
        stand_in=status.stand_in,
        replay=status.replay,
        circuit=_CIRCUITS[status.circuit],
    )


def spend_query(request: pb.GetSpendRequest, tenant: str | None) -> SpendQuery:
    """Validate a question about ``tenant``, ``None`` for all. Raises WeirError INVALID_REQUEST."""
    first, last = _day("from_day", request.from_day), _day("to_day", request.to_day)
    if (first or last) and not request.by_day:
        raise _bad_request("by_day", "must be set where days are chosen")
    if first and last and first > last:
        raise _bad_request("to_day", "is before from_day")
    return SpendQuery(tenant, request.by_day, first, last)


def _day(field: str, text: str) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        raise _bad_request(field, "is no day such as 2026-01-31") from None


def _bad_request(field: str, problem: str) -> WeirError:
    return WeirError(ErrorCode.INVALID_REQUEST, f"{field} {problem}.", fields={field: problem})


def spend_response(rows: Iterable[SpendRow], budgets: Iterable[BudgetState]) -> pb.GetSpendResponse:
    """Convert what the ledger tells."""
    states = list(budgets)
    limits = {
        state.tenant: state.limit_nano for state in states if state.period == "total" and not state.model
    }
    return pb.GetSpendResponse(
        spend=[_spend(row, limits.get(row.tenant)) for row in rows], budgets=map(_budget, states)
    )


def _spend(row: SpendRow, limit_nano: int | None) -> pb.Spend:
    return pb.Spend(
        tenant=row.tenant,
        model=row.model,
        settled_usd=to_usd(row.settled_nano),
        reserved_usd=to_usd(row.reserved_nano),
        budget_usd=None if limit_nano is None else to_usd(limit_nano),
        day=row.day.isoformat() if row.day else "",
        provider=row.provider.removesuffix(REPLAY_MARK),
        attempts=row.attempts,
        prompt_tokens=row.counts.prompt,
        cached_prompt_tokens=row.counts.cached,
        cache_write_tokens=row.counts.cache_write,
        completion_tokens=row.counts.completion,
        reasoning_tokens=row.counts.reasoning,
        replay=row.provider.endswith(REPLAY_MARK),
    )


def _budget(state: BudgetState) -> pb.BudgetState:
    budget = pb.BudgetState(
        tenant=state.tenant,
        model=state.model,
        period=state.period,
        limit_usd=to_usd(state.limit_nano),
        committed_usd=to_usd(state.committed_nano),
    )
    if state.resets_at:
        budget.resets_at.FromDatetime(state.resets_at)
    return budget


def completion_request(request: ProviderRequest) -> slm_worker_pb2.CompleteRequest:
    """Build the stand-in's request to the small model's worker."""
    prompt = prompt_to_proto(PromptSpec(request.messages, request.sampling, request.constraint))
    return slm_worker_pb2.CompleteRequest(request_id=current_call().request_id, prompt=prompt)


def provider_event(response: slm_worker_pb2.CompleteResponse) -> ProviderEvent:
    """Convert what the worker streams."""
    if response.WhichOneof("event") == "delta":
        return Delta(response.delta.text)
    usage = response.finished.usage
    cut = response.finished.finish_reason == types_pb2.FINISH_REASON_LENGTH
    counts = TokenCounts(usage.prompt_tokens, usage.completion_tokens, usage.cached_prompt_tokens)
    return Finished(FinishReason.LENGTH if cut else FinishReason.STOP, counts)
