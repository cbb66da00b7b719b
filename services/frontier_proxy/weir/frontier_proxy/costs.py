"""What a request cost although it failed, told with its error."""

from __future__ import annotations

from collections.abc import Sequence

from weir.common.errors import WeirError
from weir.frontier_proxy.domain import AttemptUsage, to_usd


def with_cost(error: WeirError, spent: Sequence[AttemptUsage]) -> WeirError:
    """Add what the attempts used: the caller's ledger gets it although no ``finished`` event comes."""
    if spent:
        error.metadata |= {
            "attempts": str(len(spent)),
            "cost_usd": format(to_usd(sum(usage.cost_nano for usage in spent)), ".9f"),
            "prompt_tokens": str(sum(usage.counts.prompt for usage in spent)),
            "completion_tokens": str(sum(usage.counts.completion for usage in spent)),
            "model": spent[-1].model,
        }
    return error
