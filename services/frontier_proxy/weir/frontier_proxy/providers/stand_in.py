"""The stand-in: the local small model answers under the name of a frontier model that has no key."""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace

import grpc

from weir.common.calls import connect, stream_from
from weir.engines.base import Constraint
from weir.frontier_proxy.convert import completion_request, provider_event
from weir.frontier_proxy.providers.base import Access, Delta, ProviderEvent, ProviderRequest
from weir.frontier_proxy.providers.wording import conversation
from weir.v1 import slm_worker_pb2_grpc

STAND_IN = "stand_in"


class StandInProvider:
    """Streams from ``SlmWorkerService.Complete``; nothing leaves the installation and nothing is charged."""

    stand_in = True
    # What a prompt may hold at most; the worker takes them all.
    max_stops = 16

    def __init__(self, targets: Sequence[str]) -> None:
        self.access = Access(STAND_IN, STAND_IN, "")
        self._targets = tuple(targets)
        self._channels: list[grpc.aio.Channel] = []
        self._next = itertools.count()

    async def start(self) -> None:
        """Open the channels; they connect when first used."""
        self._channels = [connect(target) for target in self._targets]

    async def aclose(self) -> None:
        """Close the channels."""
        while self._channels:
            await self._channels.pop().close()

    def supports(self, constraint: Constraint) -> bool:
        """All kinds: the worker itself refuses what its engine lacks."""
        del constraint
        return True

    def prefills(self, request: ProviderRequest) -> bool:
        """The worker continues a last assistant turn; an answer held to a format begins anew."""
        return request.constraint is None

    async def stream(self, request: ProviderRequest) -> AsyncGenerator[ProviderEvent, None]:
        """Yield the worker's answer, see ``Provider.stream``; the worker's own errors pass through."""
        turns = conversation(request, prefill=self.prefills(request))
        channel = self._channels[next(self._next) % len(self._channels)]
        stub = slm_worker_pb2_grpc.SlmWorkerServiceStub(channel)
        message = completion_request(replace(request, messages=turns, prefix=""))
        async with stream_from(stub.Complete, message) as responses:
            yield Delta()
            async for response in responses:
                yield provider_event(response)
