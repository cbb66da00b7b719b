"""What callers and providers say, made such that any database keeps it: a bad value must not stop a batch."""

from __future__ import annotations

from weir.common.errors import ErrorCode, WeirError
from weir.frontier_proxy.domain import TokenCounts, to_usd
from weir.frontier_proxy.ledger.base import Charge

# Of one attempt, so that sums stay far from 64 bits: a million dollars, and tokens.
MAX_NANO = 10**15
MAX_TOKENS = 2**40
MAX_TEXT = 256


def keepable_charge(charge: Charge) -> Charge:
    """Return a charge whose texts can be stored.

    Raises:
        WeirError: COST_LIMIT for one that is too large to be one attempt's.
    """
    if not 0 <= charge.nano <= MAX_NANO:
        hint = f"An attempt may cost no more than ${to_usd(MAX_NANO):,.0f}; ask for fewer tokens."
        raise WeirError(ErrorCode.COST_LIMIT, hint)
    return Charge(
        _text(charge.tenant),
        _text(charge.provider),
        _text(charge.model),
        charge.nano,
        _text(charge.request_id)[:MAX_TEXT],
    )


def keepable_nano(nano: int) -> int:
    """Return an amount within bounds."""
    return min(max(nano, 0), MAX_NANO)


def keepable_counts(counts: TokenCounts) -> TokenCounts:
    """Return token counts within bounds, whatever a provider reported."""
    return TokenCounts(
        _tokens(counts.prompt),
        _tokens(counts.completion),
        _tokens(counts.cached),
        _tokens(counts.cache_write),
        _tokens(counts.reasoning),
    )


def _tokens(count: int) -> int:
    return count if 0 <= count <= MAX_TOKENS else min(max(count, 0), MAX_TOKENS)


def _text(text: str) -> str:
    """Replace what PostgreSQL cannot store: zero bytes, and halves of surrogate pairs."""
    if text.isascii() and "\0" not in text:
        return text
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode("utf-8")
