"""What a tier's answer costs: estimated before, bounded during, compared with the frontier after."""

from __future__ import annotations

from weir.router.domain import Facts, TierState

MILLION = 1_000_000
# An answer shorter than this is not worth starting under a cost limit.
SHORTEST_ANSWER = 16


def cost_usd(state: TierState, prompt_tokens: int, completion_tokens: float) -> float:
    """Price a number of tokens in a tier."""
    spent = prompt_tokens * state.input_usd_per_million + completion_tokens * state.output_usd_per_million
    return spent / MILLION


def answer_limit(state: TierState, facts: Facts) -> int:
    """Tokens the answer may have: what was asked, else the tier's default."""
    return facts.max_tokens or state.default_max_tokens


def least_cost_usd(state: TierState, facts: Facts) -> float:
    """The price of the prompt and the shortest answer worth starting."""
    return cost_usd(state, facts.prompt_tokens, min(SHORTEST_ANSWER, answer_limit(state, facts)))


def most_cost_usd(state: TierState, facts: Facts) -> float:
    """The price of the prompt and the longest answer allowed."""
    return cost_usd(state, facts.prompt_tokens, answer_limit(state, facts))


def expected_cost_usd(state: TierState, facts: Facts) -> float:
    """The price with an answer as long as the tier's are on average, within what this one may have."""
    limit = answer_limit(state, facts)
    tokens = limit if state.mean_completion_tokens is None else min(limit, state.mean_completion_tokens)
    return cost_usd(state, facts.prompt_tokens, tokens)


def affordable_tokens(state: TierState, prompt_tokens: int, max_cost_usd: float | None) -> int | None:
    """Tokens that the limit pays for after the prompt; ``None`` where it does not bind."""
    if max_cost_usd is None or state.output_usd_per_million <= 0:
        return None
    left = max_cost_usd - cost_usd(state, prompt_tokens, 0)
    return max(0, int(left * MILLION / state.output_usd_per_million))
