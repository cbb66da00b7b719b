"""The proxy's own types: what is asked, what is answered, and money as whole nano-dollars."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal
from enum import StrEnum

from weir.common.config.base import ResidencyName
from weir.common.prompts import PromptSpec

NANO = 1_000_000_000


def to_nano(usd: float | Decimal) -> int:
    """Convert US dollars to nano-dollars; sums of these are exact."""
    return int((Decimal(str(usd)) * NANO).to_integral_value(ROUND_HALF_UP))


def to_usd(nano: int) -> float:
    """Convert nano-dollars to US dollars."""
    return nano / NANO


class Finish(StrEnum):
    """Why an answer ended; BUDGET where the cost limit, not the caller's length, cut it."""

    STOP = "stop"
    LENGTH = "length"
    BUDGET = "budget"


@dataclass(frozen=True, slots=True)
class TokenCounts:
    """Tokens of one attempt. ``cached`` and ``cache_write`` are parts of ``prompt``, ``reasoning`` is one of
    ``completion``."""

    prompt: int = 0
    completion: int = 0
    cached: int = 0
    cache_write: int = 0
    reasoning: int = 0


@dataclass(frozen=True, slots=True)
class ForwardSpec:
    """A valid request.

    ``residency`` is ``None`` where the server's default applies; ``models`` are those that the tenant may
    use, ``None`` all of them. ``names`` are the people named in each of its texts, as they are found.
    """

    request_id: str
    tenant: str
    prompt: PromptSpec
    model: str = ""
    residency: ResidencyName | None = None
    max_cost_nano: int | None = None
    continue_from: str = ""
    models: frozenset[str] | None = None
    names: dict[str, list[str]] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class AttemptUsage:
    """What one attempt used and cost, whether it succeeded or not."""

    model: str
    provider: str
    counts: TokenCounts = field(default_factory=TokenCounts)
    cost_nano: int = 0
    stand_in: bool = False
    replay: bool = False


@dataclass(frozen=True, slots=True)
class Switched:
    """Another model continues the text that was sent; ``code`` is the error that ended the first."""

    from_model: str
    to_model: str
    code: str
    detail: str
    kept_tokens: int


@dataclass(frozen=True, slots=True)
class Done:
    """The end of an answer: every attempt's usage, and the times in seconds from the request's arrival."""

    finish: Finish
    usage: tuple[AttemptUsage, ...]
    first_token_s: float
    total_s: float
