"""What is kept of a request: three kinds of record, each written once and never changed."""

from __future__ import annotations

from typing import Any

import msgspec


class DecisionRecord(msgspec.Struct, frozen=True, tag_field="kind", tag="decision", omit_defaults=True):
    """A decision and all that led to it.

    ``case`` and ``bounds`` are those of ``weir.router.case``, so that the choice can be made again;
    ``signals`` is what else was measured; ``revisions`` names the classifier, the policy and the program.
    ``prompt`` is the classified text, kept only where ``state.receipts.store_prompts`` allows it.
    """

    decision_id: str
    request_id: str
    tenant: str
    at: float
    tier: str
    model: str
    order: list[str]
    case: dict[str, Any]
    bounds: dict[str, Any]
    signals: dict[str, str]
    reasons: list[str]
    revisions: dict[str, str]
    confidence: float
    prompt_tokens: int
    no_store: bool = False
    generated: bool = True
    prompt: str | None = None


class OutcomeRecord(msgspec.Struct, frozen=True, tag_field="kind", tag="outcome", omit_defaults=True):
    """How an answer ended: ``finished``, ``cancelled`` or an error code. Seconds and USD."""

    decision_id: str
    at: float
    outcome: str
    answered_by: str
    completion_tokens: int = 0
    cost_usd: float = 0.0
    frontier_cost_usd: float = 0.0
    first_token_s: float | None = None
    total_s: float = 0.0
    valid: bool | None = None
    handovers: int = 0


class FeedbackRecord(msgspec.Struct, frozen=True, tag_field="kind", tag="feedback", omit_defaults=True):
    """A label. ``comment`` is dropped where the request asked that no content be kept."""

    decision_id: str
    at: float
    acceptable: bool | None = None
    score: float | None = None
    comment: str = ""


Record = DecisionRecord | OutcomeRecord | FeedbackRecord


class Receipt(msgspec.Struct, frozen=True):
    """A record in its place of the chain: ``hash`` is that of the previous receipt's hash and this body."""

    sequence: int
    hash: str
    record: Record
