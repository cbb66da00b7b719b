"""From the proxy's messages to the report."""

from __future__ import annotations

from collections.abc import Sequence

from weir.spending.report import Budget, ModelState, Report, Saved, Spent
from weir.v1 import frontier_proxy_pb2 as pb


def report_of(
    spend: pb.GetSpendResponse, models: pb.ListModelsResponse, savings: Sequence[Saved] | None
) -> Report:
    """Put the report together."""
    return Report(
        tuple(map(_spent, spend.spend)),
        tuple(map(_budget, spend.budgets)),
        tuple(map(_model, models.models)),
        None if savings is None else tuple(savings),
    )


def _spent(row: pb.Spend) -> Spent:
    return Spent(
        day=row.day,
        tenant=row.tenant,
        provider=row.provider,
        model=row.model,
        attempts=row.attempts,
        prompt_tokens=row.prompt_tokens,
        cached_prompt_tokens=row.cached_prompt_tokens,
        cache_write_tokens=row.cache_write_tokens,
        completion_tokens=row.completion_tokens,
        reasoning_tokens=row.reasoning_tokens,
        settled_usd=row.settled_usd,
        reserved_usd=row.reserved_usd,
        replay=row.replay,
    )


def _budget(state: pb.BudgetState) -> Budget:
    return Budget(
        tenant=state.tenant,
        model=state.model,
        period=state.period,
        limit_usd=state.limit_usd,
        committed_usd=state.committed_usd,
        left_usd=max(0.0, state.limit_usd - state.committed_usd),
        resets_at=state.resets_at.ToMicroseconds() / 1e6 if state.HasField("resets_at") else None,
    )


def _model(model: pb.FrontierModel) -> ModelState:
    circuit = pb.Circuit.Name(model.circuit) if model.circuit else ""
    return ModelState(
        model=model.model,
        provider=model.provider,
        input_usd_per_million=model.input_usd_per_million,
        output_usd_per_million=model.output_usd_per_million,
        available=model.available,
        circuit=circuit.removeprefix("CIRCUIT_").lower(),
        stand_in=model.stand_in,
        replay=model.replay,
    )
