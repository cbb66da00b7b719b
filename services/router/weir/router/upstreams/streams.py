"""One attempt on one replica: the tier's request out, its deltas, hand-overs and end back in common terms."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Any, Literal

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

_TAKEOVERS = {"token": verifier_pb2.TAKEOVER_TOKEN, "stretch": verifier_pb2.TAKEOVER_STRETCH}


@dataclass(frozen=True, slots=True)
class Job:
    """What a tier is asked. ``prompt`` has the tier's defaults filled in.

    ``min_probability`` unset means lossless verification; ``escalate_below`` 0 forbids the verifier to hand
    over to the frontier.
    """

    request_id: str
    prompt: PromptSpec
    residency: Residency
    adapter: str = ""
    max_cost_usd: float | None = None
    min_probability: float | None = None
    fallback_below: float = 0.0
    takeover: Literal["token", "stretch"] = "token"
    escalate_below: float = 0.0
    window: int = 0


TierEvent = types_pb2.TokenDelta | Handover | TierFinished
Stream = Callable[[grpc.aio.Channel, Job], AsyncGenerator[TierEvent]]


def complete(channel: grpc.aio.Channel, job: Job) -> AsyncGenerator[TierEvent]:
    """Stream the small model's answer. Raises WeirError."""
    stub = slm_worker_pb2_grpc.SlmWorkerServiceStub(channel)
    request = slm_worker_pb2.CompleteRequest(
        request_id=job.request_id, prompt=prompt_to_proto(job.prompt), adapter=job.adapter
    )
    return _events(stub.Complete, request, Tier.SLM)


def verified(channel: grpc.aio.Channel, job: Job) -> AsyncGenerator[TierEvent]:
    """Stream drafts of the small model verified by the larger one. Raises WeirError."""
    stub = verifier_pb2_grpc.VerifierServiceStub(channel)
    request = verifier_pb2.GenerateVerifiedRequest(
        request_id=job.request_id,
        prompt=prompt_to_proto(job.prompt),
        residency=RESIDENCY_VALUES[job.residency],
        escalate_below=job.escalate_below,
        window=job.window,
    )
    if job.min_probability is None:
        request.acceptance.lossless.SetInParent()
    else:
        request.acceptance.threshold.min_probability = job.min_probability
        request.acceptance.threshold.fallback_below = job.fallback_below
        request.acceptance.threshold.takeover = _TAKEOVERS[job.takeover]
    return _events(stub.GenerateVerified, request, Tier.HYBRID)


def forward(channel: grpc.aio.Channel, job: Job) -> AsyncGenerator[TierEvent]:
    """Stream a provider's answer. Raises WeirError."""
    stub = frontier_proxy_pb2_grpc.FrontierProxyServiceStub(channel)
    request = frontier_proxy_pb2.ForwardRequest(
        request_id=job.request_id,
        prompt=prompt_to_proto(job.prompt),
        residency=RESIDENCY_VALUES[job.residency],
        max_cost_usd=job.max_cost_usd,
    )
    return _events(stub.Forward, request, Tier.FRONTIER)


async def _events(method: Any, request: object, tier: Tier) -> AsyncGenerator[TierEvent]:
    """Read a tier's stream to its end: left at ``finished``, the call would count as cancelled."""
    ended = False
    async with stream_from(method, request) as responses:
        async for response in responses:
            match response.WhichOneof("event"):
                case "delta":
                    yield response.delta
                case "handoff":
                    yield handover_from_proto(response.handoff)
                case "finished":
                    end = response.finished
                    usage = [end.usage] if tier is Tier.SLM else list(end.usage)
                    yield tier_finished(end.finish_reason, usage, end.timing, tier)
                    ended = True
    if not ended:
        raise WeirError(ErrorCode.STREAM_BROKEN, internal=f"the {tier} stream ended without a finish")


STREAMS: dict[Tier, Stream] = {Tier.SLM: complete, Tier.HYBRID: verified, Tier.FRONTIER: forward}
