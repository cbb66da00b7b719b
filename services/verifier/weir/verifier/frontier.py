"""The rest of an answer from the frontier, by way of its proxy."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

from weir.common.calls import stream_from
from weir.common.errors import ErrorCode, WeirError
from weir.verifier import convert
from weir.verifier.events import Delta, FrontierEnd, Handoff, Job, Residency
from weir.verifier.upstream import Upstream

if TYPE_CHECKING:
    from weir.v1 import frontier_proxy_pb2_grpc

ProxyStub: TypeAlias = "frontier_proxy_pb2_grpc.FrontierProxyServiceAsyncStub"


class Frontier:
    """Continues answers that may leave this installation."""

    def __init__(self, proxies: Upstream[ProxyStub]) -> None:
        self._proxies = proxies

    @staticmethod
    def may_take(job: Job) -> bool:
        """Whether the content may travel so far."""
        return job.residency is not Residency.LOCAL_ONLY

    async def forward(
        self, job: Job, said: str, max_tokens: int
    ) -> AsyncGenerator[Delta | Handoff | FrontierEnd, None]:
        """Stream what follows ``said``, ending with one ``FrontierEnd``; a ``Handoff`` says that another of
        the frontier's models goes on.

        Raises:
            WeirError: RESIDENCY_FORBIDDEN before anything is sent; whatever the proxy says; TIER_UNAVAILABLE
                without one; STREAM_BROKEN where it ends early.
        """
        if not self.may_take(job):
            raise WeirError(ErrorCode.RESIDENCY_FORBIDDEN)
        stub = self._proxies.next()
        if stub is None:
            raise WeirError(ErrorCode.TIER_UNAVAILABLE, "No frontier proxy is configured.")
        spec = replace(job.spec, sampling=replace(job.spec.sampling, max_tokens=max_tokens))
        request = convert.forward_request(job.request_id, spec, job.residency, said)
        async with stream_from(stub.Forward, request) as responses:
            async for response in responses:
                event = convert.frontier_event(response)
                yield event
                if isinstance(event, FrontierEnd):
                    return
        raise WeirError(ErrorCode.STREAM_BROKEN, internal="the frontier proxy ended without a finish")
