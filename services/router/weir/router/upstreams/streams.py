"""One attempt on one replica: the tier's request out, its deltas, hand-overs and end back in common terms."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass

import grpc

from weir.common.calls import stream_from
from weir.common.errors import ErrorCode, WeirError
from weir.common.prompts import PromptSpec, prompt_to_proto
from weir.router.convert import RESIDENCY_VALUES, handover_from_proto, tier_finished
from weir.router.domain import Handover, Residency, Tier, TierFinished
from weir.v1 import (
    frontier_proxy_pb2,
    frontier_proxy_pb2_grpc,
    slm_worker_pb2,
    slm_worker_pb2_grpc,
    types_pb2,
    verifier_pb2,
    verifier_pb2_grpc,
)


@dataclass(frozen=True, slots=True)
class Job:
    """What a tier is asked. ``prompt`` has the tier's defaults filled in.

    ``acceptance_threshold`` unset means lossless verification; ``escalate_below`` 0 forbids the verifier to
    hand over to the frontier.
    """

    request_id: str
    prompt: PromptSpec
    residency: Residency
    adapter: str = ""
    max_cost_usd: float | None = None
    acceptance_threshold: float | None = None
    escalate_below: float = 0.0
    window: int = 0


TierEvent = types_pb2.TokenDelta | Handover | TierFinished
Stream = Callable[[grpc.aio.Channel, Job], AsyncGenerator[TierEvent]]


async def complete(channel: grpc.aio.Channel, job: Job) -> AsyncGenerator[TierEvent]:
    """Stream the small model's answer. Raises WeirError."""
    stub = slm_worker_pb2_grpc.SlmWorkerServiceStub(channel)
    request = slm_worker_pb2.CompleteRequest(
        request_id=job.request_id, prompt=prompt_to_proto(job.prompt), adapter=job.adapter
    )
    ended = False
    async with stream_from(stub.Complete, request) as responses:
        async for response in responses:
            if response.WhichOneof("event") == "delta":
                yield response.delta
            else:
                end = response.finished
                yield tier_finished(end.finish_reason, [end.usage], end.timing, Tier.SLM)
                ended = True
    if not ended:
        raise _cut_short("slm_worker")


async def verified(channel: grpc.aio.Channel, job: Job) -> AsyncGenerator[TierEvent]:
    """Stream drafts of the small model verified by the larger one. Raises WeirError."""
    stub = verifier_pb2_grpc.VerifierServiceStub(channel)
    request = verifier_pb2.GenerateVerifiedRequest(
        request_id=job.request_id,
        prompt=prompt_to_proto(job.prompt),
        residency=RESIDENCY_VALUES[job.residency],
        escalate_below=job.escalate_below,
        window=job.window,
    )
    if job.acceptance_threshold is None:
        request.acceptance.lossless.SetInParent()
    else:
        request.acceptance.threshold.min_probability = job.acceptance_threshold
    ended = False
    async with stream_from(stub.GenerateVerified, request) as responses:
        async for response in responses:
            kind = response.WhichOneof("event")
            if kind == "delta":
                yield response.delta
            elif kind == "handoff":
                yield handover_from_proto(response.handoff)
            else:
                end = response.finished
                yield tier_finished(end.finish_reason, list(end.usage), end.timing, Tier.HYBRID)
                ended = True
    if not ended:
        raise _cut_short("verifier")


async def forward(channel: grpc.aio.Channel, job: Job) -> AsyncGenerator[TierEvent]:
    """Stream a provider's answer. Raises WeirError."""
    stub = frontier_proxy_pb2_grpc.FrontierProxyServiceStub(channel)
    request = frontier_proxy_pb2.ForwardRequest(
        request_id=job.request_id,
        prompt=prompt_to_proto(job.prompt),
        residency=RESIDENCY_VALUES[job.residency],
        max_cost_usd=job.max_cost_usd,
    )
    ended = False
    async with stream_from(stub.Forward, request) as responses:
        async for response in responses:
            if response.WhichOneof("event") == "delta":
                yield response.delta
            else:
                end = response.finished
                yield tier_finished(end.finish_reason, list(end.usage), end.timing, Tier.FRONTIER)
                ended = True
    if not ended:
        raise _cut_short("frontier_proxy")


STREAMS: dict[Tier, Stream] = {Tier.SLM: complete, Tier.HYBRID: verified, Tier.FRONTIER: forward}


def _cut_short(service: str) -> WeirError:
    return WeirError(ErrorCode.STREAM_BROKEN, internal=f"{service} ended its stream without a finish")
