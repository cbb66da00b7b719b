"""The only place where this service's protos meet its domain types."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence

from google.protobuf import duration_pb2

from weir.common.config.model import HybridTier
from weir.common.config.routing import Routing
from weir.common.prompts import PromptSpec, prompt_from_proto, prompt_to_proto
from weir.engines.base import Candidate, TokenInfo
from weir.v1 import frontier_proxy_pb2, router_pb2, slm_worker_pb2, types_pb2, verifier_pb2
from weir.verifier.acceptance import DraftToken, Lossless, Rule, Takeover, Threshold
from weir.verifier.events import (
    Attempt,
    Delta,
    Ending,
    Event,
    Finished,
    FrontierEnd,
    Handoff,
    Job,
    Residency,
    Source,
    Stats,
)
from weir.verifier.problems import malformed
from weir.verifier.speculation.planner import Plan
from weir.verifier.verify import DraftedChunk, Start, Verdict

MAX_WINDOW = 65_536
_SOURCES = {
    Source.DRAFT: types_pb2.SOURCE_DRAFT,
    Source.VERIFIER: types_pb2.SOURCE_VERIFIER,
    Source.FRONTIER: types_pb2.SOURCE_FRONTIER,
}
_ENDINGS = {
    Ending.STOP: types_pb2.FINISH_REASON_STOP,
    Ending.LENGTH: types_pb2.FINISH_REASON_LENGTH,
    Ending.BUDGET: types_pb2.FINISH_REASON_BUDGET,
}
_ENDING_OF = {value: ending for ending, value in _ENDINGS.items()}
_RESIDENCIES = {
    Residency.LOCAL_ONLY: types_pb2.RESIDENCY_LOCAL_ONLY,
    Residency.REDACTED: types_pb2.RESIDENCY_REDACTED,
    Residency.ANY: types_pb2.RESIDENCY_ANY,
}
_TAKEOVER_OF = {
    verifier_pb2.TAKEOVER_TOKEN: Takeover.TOKEN,
    verifier_pb2.TAKEOVER_STRETCH: Takeover.STRETCH,
}
_RESIDENCY_OF = {value: residency for residency, value in _RESIDENCIES.items()}


def _duration(seconds: float) -> duration_pb2.Duration:
    duration = duration_pb2.Duration()
    duration.FromNanoseconds(max(0, round(seconds * 1e9)))
    return duration


def _share(field: str, value: float) -> float:
    if not 0.0 <= value <= 1.0:  # NaN too
        raise malformed(field, "must be between 0 and 1")
    return value


def rule(acceptance: verifier_pb2.Acceptance, tier: HybridTier, path: str = "acceptance") -> Rule:
    """Return the acceptance rule, by default the tier's; ``path`` is where the request states it.

    Raises:
        WeirError: INVALID_REQUEST.
    """
    named = acceptance.WhichOneof("rule")
    if named == "threshold":
        return _threshold(acceptance.threshold, tier, f"{path}.threshold")
    if named is None and tier.min_probability is not None:
        return Threshold(tier.min_probability, tier.fallback_below, Takeover(tier.takeover))
    return Lossless()


def _threshold(asked: verifier_pb2.Threshold, tier: HybridTier, path: str) -> Threshold:
    takeover = _TAKEOVER_OF.get(asked.takeover)
    if takeover is None and asked.takeover != verifier_pb2.TAKEOVER_UNSPECIFIED:
        raise malformed(f"{path}.takeover", "is not a known value")
    return Threshold(
        _share(f"{path}.min_probability", asked.min_probability),
        _share(f"{path}.fallback_below", asked.fallback_below),
        takeover or Takeover(tier.takeover),
    )


def job(request: verifier_pb2.GenerateVerifiedRequest, tier: HybridTier, routing: Routing) -> Job:
    """Validate a request. Raises WeirError INVALID_REQUEST and those of prompts."""
    if request.window > MAX_WINDOW:
        raise malformed("window", f"must be at most {MAX_WINDOW}")
    if request.residency not in {types_pb2.RESIDENCY_UNSPECIFIED, *_RESIDENCY_OF}:
        raise malformed("residency", "is not a known value")
    return Job(
        request_id=request.request_id,
        spec=prompt_from_proto(request.prompt, max_bytes=routing.max_prompt_bytes),
        rule=rule(request.acceptance, tier),
        residency=_RESIDENCY_OF.get(request.residency, Residency(routing.default_residency)),
        escalate_below=_share("escalate_below", request.escalate_below),
        window=request.window or tier.window,
        escalate_unsure_below=tier.escalate_unsure_below,
    )


def drafts(tokens: Iterable[types_pb2.Token]) -> tuple[DraftToken, ...]:
    """Convert drafted tokens with what the drafter told of its distribution."""
    return tuple(
        DraftToken(token.id, tuple(Candidate(entry.id, entry.logprob) for entry in token.top))
        for token in tokens
    )


def draft_start(
    request_id: str, spec: PromptSpec, first: Plan, min_confidence: float
) -> slm_worker_pb2.DraftStart:
    """Ask a worker for drafts."""
    return slm_worker_pb2.DraftStart(
        request_id=request_id,
        prompt=prompt_to_proto(spec),
        chunk_tokens=first.tokens,
        chunks_ahead=first.chunks_ahead,
        min_confidence=min_confidence,
    )


def draft_method(chunk: slm_worker_pb2.DraftChunk) -> str:
    """Return where a chunk's tokens come from: "model" or "lookup"."""
    return "lookup" if chunk.method == slm_worker_pb2.DRAFT_METHOD_LOOKUP else "model"


def continuation_request(request_id: str, spec: PromptSpec, said: str) -> slm_worker_pb2.CompleteRequest:
    """Ask a worker to write on behind ``said``, which may be empty: then it begins the answer.

    A constraint goes along only at the beginning: servers hold a continuation against it from its start.
    """
    prompt = prompt_to_proto(spec)
    if said:
        prompt.ClearField("output")
        if prompt.messages[-1].role == types_pb2.ROLE_ASSISTANT:
            prompt.messages[-1].content += said
        else:
            prompt.messages.add(role=types_pb2.ROLE_ASSISTANT, content=said)
    return slm_worker_pb2.CompleteRequest(request_id=request_id, prompt=prompt)


def cut_short(finished: slm_worker_pb2.SlmFinished) -> bool:
    """Whether a worker would have written on."""
    return finished.finish_reason == types_pb2.FINISH_REASON_LENGTH


def forward_request(
    request_id: str, spec: PromptSpec, residency: Residency, said: str
) -> frontier_proxy_pb2.ForwardRequest:
    """Ask the frontier to continue."""
    return frontier_proxy_pb2.ForwardRequest(
        request_id=request_id,
        prompt=prompt_to_proto(spec),
        residency=_RESIDENCIES[residency],
        continue_from=said,
    )


def frontier_event(response: frontier_proxy_pb2.ForwardResponse) -> Delta | Handoff | FrontierEnd:
    """Convert one event of the frontier's part."""
    if response.HasField("handoff"):
        told = response.handoff
        return Handoff(told.reason.code, told.reason.detail, told.kept_tokens, told.from_model, told.to_model)
    if response.HasField("finished"):
        finished = response.finished
        ending = _ENDING_OF.get(finished.finish_reason, Ending.STOP)
        return FrontierEnd(ending, tuple(_attempt(usage) for usage in finished.usage))
    tokens = tuple(
        TokenInfo(
            token.id,
            token.logprob if token.HasField("logprob") else None,
            tuple(Candidate(entry.id, entry.logprob) for entry in token.top),
        )
        for token in response.delta.tokens
    )
    return Delta(response.delta.text, tokens, Source.FRONTIER)


def _attempt(usage: types_pb2.Usage) -> Attempt:
    return Attempt(
        model=usage.model,
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        cached_prompt_tokens=usage.cached_prompt_tokens,
        drafted_tokens=usage.drafted_tokens,
        accepted_tokens=usage.accepted_tokens,
        cost_usd=usage.cost_usd,
        stand_in=usage.stand_in,
        frontier=True,
        cache_write_tokens=usage.cache_write_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        provider=usage.provider,
        replay=usage.replay,
    )


def event_response(event: Event) -> verifier_pb2.GenerateVerifiedResponse:
    """Convert one event of a verified answer."""
    if isinstance(event, Delta):
        return verifier_pb2.GenerateVerifiedResponse(delta=_delta(event))
    if isinstance(event, Handoff):
        handoff = router_pb2.Handoff(
            from_tier=types_pb2.TIER_FRONTIER if event.from_model else types_pb2.TIER_HYBRID,
            to_tier=types_pb2.TIER_FRONTIER,
            reason=router_pb2.Reason(code=event.code, detail=event.detail),
            kept_tokens=event.kept_tokens,
            from_model=event.from_model,
            to_model=event.to_model,
        )
        return verifier_pb2.GenerateVerifiedResponse(handoff=handoff)
    return verifier_pb2.GenerateVerifiedResponse(finished=_finished(event))


def _delta(delta: Delta) -> types_pb2.TokenDelta:
    source = _SOURCES[delta.source]
    return types_pb2.TokenDelta(
        text=delta.text, tokens=[_token(token, source) for token in delta.tokens], source=source
    )


def _token(token: TokenInfo, source: types_pb2.Source.ValueType, top: int | None = None) -> types_pb2.Token:
    return types_pb2.Token(
        id=token.id,
        logprob=token.logprob,
        source=source,
        top=[types_pb2.Candidate(id=entry.id, logprob=entry.logprob) for entry in token.top[:top]],
    )


def _finished(finished: Finished) -> verifier_pb2.VerifiedFinished:
    return verifier_pb2.VerifiedFinished(
        finish_reason=_ENDINGS[finished.ending],
        usage=[_usage(attempt) for attempt in finished.attempts],
        timing=types_pb2.Timing(
            queue=_duration(finished.queue_s),
            time_to_first_token=_duration(finished.first_token_s),
            total=_duration(finished.total_s),
        ),
        rounds=finished.rounds,
        stats=_stats(finished.stats),
    )


def _stats(stats: Stats) -> verifier_pb2.VerificationStats:
    return verifier_pb2.VerificationStats(
        passes=stats.passes,
        passed_tokens=stats.passed_tokens,
        draft_tokens=stats.draft_tokens,
        verifier_tokens=stats.verifier_tokens,
        frontier_tokens=stats.frontier_tokens,
        lookup_drafted=stats.lookup_drafted,
        lookup_accepted=stats.lookup_accepted,
        judged_by_position=stats.judged_by_position,
        accepted_by_position=stats.accepted_by_position,
        draft_time=_duration(stats.draft_s),
        verify_time=_duration(stats.verify_s),
        wait_time=_duration(stats.wait_s),
        level=stats.level,
    )


def _usage(attempt: Attempt) -> types_pb2.Usage:
    return types_pb2.Usage(
        tier=types_pb2.TIER_FRONTIER if attempt.frontier else types_pb2.TIER_HYBRID,
        model=attempt.model,
        prompt_tokens=attempt.prompt_tokens,
        cached_prompt_tokens=attempt.cached_prompt_tokens,
        completion_tokens=attempt.completion_tokens,
        drafted_tokens=attempt.drafted_tokens,
        accepted_tokens=attempt.accepted_tokens,
        cost_usd=attempt.cost_usd,
        stand_in=attempt.stand_in,
        passes=attempt.passes,
        cache_write_tokens=attempt.cache_write_tokens,
        reasoning_tokens=attempt.reasoning_tokens,
        provider=attempt.provider,
        replay=attempt.replay,
    )


async def verify_requests(
    requests: AsyncIterator[verifier_pb2.VerifyRequest], tier: HybridTier, max_bytes: int
) -> AsyncGenerator[Start | DraftedChunk, None]:
    """Convert a stream of verify requests as it comes."""
    async for request in requests:
        if request.HasField("start"):
            start = request.start
            spec = prompt_from_proto(start.prompt, max_bytes=max_bytes)
            accepted_by = rule(start.acceptance, tier, "start.acceptance")
            yield Start(spec, accepted_by, start.tokenizer_sha256)
        elif request.HasField("draft"):
            chunk = request.draft
            yield DraftedChunk(
                sequence=chunk.sequence,
                tokens=drafts(chunk.tokens),
                tokenizer_sha256=chunk.tokenizer_sha256,
                method=draft_method(chunk),
                draft_s=chunk.draft_time.ToNanoseconds() / 1e9,
            )
        else:
            raise malformed("event", "is empty; send a start or a draft")


def verify_response(verdict: Verdict) -> verifier_pb2.VerifyResponse:
    """Convert the verdict on one chunk."""
    token = next((TokenInfo(own.id, own.logprob, own.top) for own in verdict.round.own), None)
    return verifier_pb2.VerifyResponse(
        sequence=verdict.sequence,
        accepted=verdict.round.accepted,
        correction=_token(token, types_pb2.SOURCE_VERIFIER) if token else None,
        logprobs=verdict.round.draft_logprobs,
        forward_time=_duration(verdict.round.forward_s),
    )


def score_response(tokens: Sequence[TokenInfo], top: int) -> verifier_pb2.ScoreResponse:
    """Convert a scored continuation, which has at least one token."""
    logprobs = [-math.inf if token.logprob is None else token.logprob for token in tokens]
    return verifier_pb2.ScoreResponse(
        tokens=[_token(token, types_pb2.SOURCE_UNSPECIFIED, top) for token in tokens],
        mean_logprob=math.fsum(logprobs) / len(logprobs),
        min_logprob=min(logprobs),
    )


def check_spec(request: verifier_pb2.CheckRequest, max_bytes: int) -> PromptSpec:
    """Return the prompt of a check, for which its constraint may do. Raises WeirErrors of prompts."""
    prompt = types_pb2.Prompt()
    prompt.CopyFrom(request.prompt)
    if not prompt.messages:
        prompt.messages.add(role=types_pb2.ROLE_USER, content="State what you know.")
    return prompt_from_proto(prompt, max_bytes=max_bytes)
