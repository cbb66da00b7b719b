"""Protos to domain types and back; nowhere else in this service do the two meet."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence

from google.protobuf.duration_pb2 import Duration

from weir.common.errors import ErrorCode, WeirError
from weir.common.prompts import PromptSpec
from weir.engines.base import Capability, EngineInfo, FinishReason, GenerationRequest, Step, TokenInfo
from weir.slm_worker.completion import Account
from weir.slm_worker.draft_line import DraftedChunk, Method, Verdict
from weir.slm_worker.draft_stream import MAX_CHUNKING, Chunking
from weir.slm_worker.load import WorkerLoad
from weir.v1 import slm_worker_pb2, types_pb2

MAX_TOP_LOGPROBS = 20
DEFAULT_CHUNK_TOKENS = 4
_METHODS = {
    Method.MODEL: slm_worker_pb2.DRAFT_METHOD_MODEL,
    Method.LOOKUP: slm_worker_pb2.DRAFT_METHOD_LOOKUP,
}
_FINISH = {
    FinishReason.STOP: types_pb2.FINISH_REASON_STOP,
    FinishReason.LENGTH: types_pb2.FINISH_REASON_LENGTH,
}


def _malformed(path: str, problem: str) -> WeirError:
    return WeirError(ErrorCode.INVALID_REQUEST, f"{path}: {problem}.", fields={path: problem})


def _sized(path: str, value: int) -> int:
    if value > MAX_CHUNKING:
        raise _malformed(path, f"at most {MAX_CHUNKING}")
    return value


def chunking(start: slm_worker_pb2.DraftStart) -> Chunking:
    """Return the chunk sizes, defaults filled in. Raises WeirError INVALID_REQUEST past a bound."""
    if not 0.0 <= start.min_confidence <= 1.0:  # NaN too
        raise _malformed("start.min_confidence", "must be between 0 and 1")
    return Chunking(
        _sized("start.chunk_tokens", start.chunk_tokens) or DEFAULT_CHUNK_TOKENS,
        _sized("start.chunks_ahead", start.chunks_ahead) or 1,
        start.min_confidence,
    )


async def draft_start(requests: AsyncIterator[slm_worker_pb2.DraftRequest]) -> slm_worker_pb2.DraftStart:
    """Return the first message of a draft stream. Raises WeirError INVALID_REQUEST where it is no start."""
    first = await anext(requests, None)
    if first is None or first.WhichOneof("event") != "start":
        hint = "Send a DraftStart as the first message."
        raise WeirError(ErrorCode.INVALID_REQUEST, hint, fields={"start": "missing"})
    return first.start


async def verdicts(
    requests: AsyncIterator[slm_worker_pb2.DraftRequest], vocab_size: int
) -> AsyncGenerator[Verdict, None]:
    """Yield the verdicts after the start.

    Raises:
        WeirError: INVALID_REQUEST at a second start, a size past its bound or a token outside the vocabulary.
    """
    async for request in requests:
        if request.WhichOneof("event") != "ack":
            hint = "After the DraftStart only DraftAcks may follow."
            raise WeirError(ErrorCode.INVALID_REQUEST, hint, fields={"event": "not an ack"})
        yield _verdict(request.ack, vocab_size)


def _verdict(ack: slm_worker_pb2.DraftAck, vocab_size: int) -> Verdict:
    for index, token in enumerate(ack.correction):
        if token >= vocab_size:
            raise _malformed(f"ack.correction[{index}]", f"the vocabulary has {vocab_size} tokens")
    return Verdict(
        ack.sequence,
        ack.accepted,
        tuple(ack.correction),
        _sized("ack.next_tokens", ack.next_tokens),
        _sized("ack.chunks_ahead", ack.chunks_ahead),
    )


def generation_request(
    request: slm_worker_pb2.CompleteRequest, spec: PromptSpec, request_id: str, info: EngineInfo
) -> GenerationRequest:
    """Return the engine's request. Raises WeirError INVALID_REQUEST, UNSUPPORTED or UNKNOWN_ADAPTER."""
    wanted = request.top_logprobs
    if wanted > MAX_TOP_LOGPROBS:
        problem = f"at most {MAX_TOP_LOGPROBS} alternatives can be had"
        raise WeirError(
            ErrorCode.INVALID_REQUEST, f"top_logprobs: {problem}.", fields={"top_logprobs": problem}
        )
    if wanted and Capability.TOP_LOGPROBS not in info.capabilities:
        hint = (
            f"The {info.engine} engine gives the chosen token's log-probability alone; set top_logprobs to 0."
        )
        raise WeirError(ErrorCode.UNSUPPORTED, hint)
    if request.adapter and request.adapter not in info.adapters:
        known = ", ".join(info.adapters) or "none"
        raise WeirError(ErrorCode.UNKNOWN_ADAPTER, f"'{request.adapter}' is not loaded (loaded: {known}).")
    return GenerationRequest(
        request_id,
        spec.messages,
        spec.sampling,
        spec.constraint,
        logprobs=Capability.LOGPROBS in info.capabilities,
        top_logprobs=wanted,
        adapter=request.adapter,
    )


def tokens(infos: Sequence[TokenInfo], source: types_pb2.Source.ValueType) -> list[types_pb2.Token]:
    """Return the tokens as sent."""
    return [
        types_pb2.Token(
            id=info.id,
            logprob=info.logprob,
            source=source,
            top=[types_pb2.Candidate(id=c.id, logprob=c.logprob) for c in info.top],
        )
        for info in infos
    ]


def delta(step: Step) -> slm_worker_pb2.CompleteResponse:
    """Return a step's text and tokens."""
    source = types_pb2.SOURCE_SLM
    return slm_worker_pb2.CompleteResponse(
        delta=types_pb2.TokenDelta(text=step.text, tokens=tokens(step.tokens, source), source=source)
    )


def _duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromNanoseconds(round(seconds * 1e9))
    return duration


def finished(account: Account, info: EngineInfo) -> slm_worker_pb2.SlmFinished:
    """Return the account of a finished answer."""
    return slm_worker_pb2.SlmFinished(
        finish_reason=_FINISH[account.finish_reason],
        usage=types_pb2.Usage(
            tier=types_pb2.TIER_SLM,
            model=info.model,
            prompt_tokens=account.prompt_tokens,
            cached_prompt_tokens=account.cached_prompt_tokens,
            completion_tokens=account.completion_tokens,
            drafted_tokens=account.drafted_tokens,
            accepted_tokens=account.accepted_tokens,
            cost_usd=account.cost_usd,
            stand_in=info.stand_in,
        ),
        timing=types_pb2.Timing(
            queue=_duration(account.queue_s),
            time_to_first_token=_duration(account.first_token_s),
            total=_duration(account.total_s),
        ),
    )


def model_info(info: EngineInfo) -> slm_worker_pb2.GetModelInfoResponse:
    """Return what runs here and what it can do."""
    return slm_worker_pb2.GetModelInfoResponse(
        model=info.model,
        engine=info.engine,
        quantization=info.quantization,
        max_context=info.max_context,
        vocab_size=info.vocab_size,
        tokenizer_sha256=info.tokenizer_sha256,
        adapters=info.adapters,
        capabilities=sorted(info.capabilities),
    )


def load(present: WorkerLoad) -> slm_worker_pb2.WatchLoadResponse:
    """Return the load as sent."""
    return slm_worker_pb2.WatchLoadResponse(
        running=present.running,
        waiting=present.waiting,
        capacity=present.capacity,
        kv_cache_used=present.kv_cache_used,
    )


def chunk(drafted: DraftedChunk, tokenizer_sha256: str) -> slm_worker_pb2.DraftResponse:
    """Return a drafted chunk, which has its number."""
    return slm_worker_pb2.DraftResponse(
        chunk=slm_worker_pb2.DraftChunk(
            sequence=drafted.number or 0,
            tokens=tokens(drafted.tokens, types_pb2.SOURCE_DRAFT),
            tokenizer_sha256=tokenizer_sha256,
            draft_time=_duration(drafted.seconds),
            method=_METHODS[drafted.method],
        )
    )
