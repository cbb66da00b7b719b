"""What a generation yields, as frozen dataclasses; times are seconds, costs US dollars."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from google.protobuf.duration_pb2 import Duration

from weir.v1 import router_pb2, types_pb2


class Tier(StrEnum):
    """Where an answer comes from, cheapest first."""

    SLM = "slm"
    HYBRID = "hybrid"
    FRONTIER = "frontier"


class Residency(StrEnum):
    """How far a request's content may travel."""

    LOCAL_ONLY = "local_only"
    REDACTED = "redacted"
    ANY = "any"


class Source(StrEnum):
    """Who produced a token; DRAFT is the small model's, accepted by the verifier."""

    SLM = "slm"
    DRAFT = "draft"
    VERIFIER = "verifier"
    FRONTIER = "frontier"
    CACHE = "cache"
    UNKNOWN = "unspecified"


@dataclass(frozen=True, slots=True)
class Reason:
    """A stable code for machines and a sentence for people."""

    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Exclusion:
    """A tier that was not eligible, and why."""

    tier: Tier | None
    reason: Reason


@dataclass(frozen=True, slots=True)
class Decision:
    """Which tier answers and why. ``complexity`` and ``confidence`` are probabilities."""

    decision_id: str
    tier: Tier | None
    model: str
    complexity: float
    confidence: float
    estimated_latency_s: float
    estimated_cost_usd: float
    reasons: tuple[Reason, ...]
    exclusions: tuple[Exclusion, ...]
    classifier_revision: str
    complexity_threshold: float


@dataclass(frozen=True, slots=True)
class Token:
    """A token in the vocabulary of the model that produced it; ``logprob`` is natural."""

    id: int
    logprob: float | None
    source: Source
    top: tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class Delta:
    """New text only. ``tokens`` is filled where token detail was asked for."""

    text: str
    source: Source
    tokens: tuple[Token, ...]


@dataclass(frozen=True, slots=True)
class Handoff:
    """Another tier takes over, or another of its models; the text sent so far stands.

    Models are named where one tier goes on with another of its own.
    """

    from_tier: Tier | None
    to_tier: Tier | None
    reason: Reason
    kept_tokens: int
    from_model: str = ""
    to_model: str = ""


@dataclass(frozen=True, slots=True)
class Usage:
    """One attempt on one model."""

    tier: Tier | None
    model: str
    prompt_tokens: int
    cached_prompt_tokens: int
    completion_tokens: int
    drafted_tokens: int
    accepted_tokens: int
    cost_usd: float
    stand_in: bool
    passes: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    provider: str = ""
    replay: bool = False


@dataclass(frozen=True, slots=True)
class Finished:
    """The end: why, at what cost, and what the frontier alone would have cost."""

    finish_reason: str
    usage: tuple[Usage, ...]
    cost_usd: float
    frontier_cost_usd: float
    queue_s: float
    time_to_first_token_s: float
    total_s: float
    confidence: float


Event = Decision | Delta | Handoff | Finished


_TIERS = {
    types_pb2.TIER_SLM: Tier.SLM,
    types_pb2.TIER_HYBRID: Tier.HYBRID,
    types_pb2.TIER_FRONTIER: Tier.FRONTIER,
}
_SOURCES = {
    types_pb2.SOURCE_SLM: Source.SLM,
    types_pb2.SOURCE_DRAFT: Source.DRAFT,
    types_pb2.SOURCE_VERIFIER: Source.VERIFIER,
    types_pb2.SOURCE_FRONTIER: Source.FRONTIER,
    types_pb2.SOURCE_CACHE: Source.CACHE,
}


def _tier(value: types_pb2.Tier.ValueType) -> Tier | None:
    return _TIERS.get(value)


def _source(value: types_pb2.Source.ValueType) -> Source:
    return _SOURCES.get(value, Source.UNKNOWN)


def _reason(proto: router_pb2.Reason) -> Reason:
    return Reason(proto.code, proto.detail)


def _seconds(duration: Duration) -> float:
    return duration.ToTimedelta().total_seconds()


def decision(proto: router_pb2.Decision) -> Decision:
    """Convert a Decision."""
    return Decision(
        decision_id=proto.decision_id,
        tier=_tier(proto.tier),
        model=proto.model,
        complexity=proto.complexity,
        confidence=proto.confidence,
        estimated_latency_s=_seconds(proto.estimated_latency),
        estimated_cost_usd=proto.estimated_cost_usd,
        reasons=tuple(_reason(reason) for reason in proto.reasons),
        exclusions=tuple(Exclusion(_tier(item.tier), _reason(item.reason)) for item in proto.exclusions),
        classifier_revision=proto.classifier_revision,
        complexity_threshold=proto.complexity_threshold,
    )


def _token(proto: types_pb2.Token) -> Token:
    logprob = proto.logprob if proto.HasField("logprob") else None
    return Token(proto.id, logprob, _source(proto.source), tuple((c.id, c.logprob) for c in proto.top))


def _usage(proto: types_pb2.Usage) -> Usage:
    return Usage(
        tier=_tier(proto.tier),
        model=proto.model,
        prompt_tokens=proto.prompt_tokens,
        cached_prompt_tokens=proto.cached_prompt_tokens,
        completion_tokens=proto.completion_tokens,
        drafted_tokens=proto.drafted_tokens,
        accepted_tokens=proto.accepted_tokens,
        passes=proto.passes,
        cost_usd=proto.cost_usd,
        stand_in=proto.stand_in,
        cache_write_tokens=proto.cache_write_tokens,
        reasoning_tokens=proto.reasoning_tokens,
        provider=proto.provider,
        replay=proto.replay,
    )


def event(proto: router_pb2.GenerateResponse) -> Event | None:
    """Convert one message of the stream; ``None`` for a kind that this client does not know yet."""
    match proto.WhichOneof("event"):
        case "decision":
            return decision(proto.decision)
        case "delta":
            delta = proto.delta
            return Delta(delta.text, _source(delta.source), tuple(_token(token) for token in delta.tokens))
        case "handoff":
            hand = proto.handoff
            return Handoff(
                _tier(hand.from_tier),
                _tier(hand.to_tier),
                _reason(hand.reason),
                hand.kept_tokens,
                hand.from_model,
                hand.to_model,
            )
        case "finished":
            return _finished(proto.finished)
    return None


def _finished(proto: router_pb2.Finished) -> Finished:
    reason = types_pb2.FinishReason.Name(proto.finish_reason) if proto.finish_reason else ""
    return Finished(
        finish_reason=reason.removeprefix("FINISH_REASON_").lower(),
        usage=tuple(_usage(usage) for usage in proto.usage),
        cost_usd=proto.cost_usd,
        frontier_cost_usd=proto.frontier_cost_usd,
        queue_s=_seconds(proto.timing.queue),
        time_to_first_token_s=_seconds(proto.timing.time_to_first_token),
        total_s=_seconds(proto.timing.total),
        confidence=proto.confidence,
    )
