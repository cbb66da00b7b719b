"""The services that the verifier calls: open channels, used in turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import grpc

from weir.common.calls import connect

Stub = TypeVar("Stub")


class Upstream(Generic[Stub]):
    """A component that holds one channel per address and deals them out in turn."""

    def __init__(self, targets: Sequence[str], stub: Callable[[grpc.aio.Channel], Stub]) -> None:
        self._targets = tuple(targets)
        self._make = stub
        self._channels: list[grpc.aio.Channel] = []
        self._stubs: list[Stub] = []
        self._turn = 0

    async def start(self) -> None:
        """Create the channels; they connect when first used."""
        self._channels = [connect(target) for target in self._targets]
        self._stubs = [self._make(channel) for channel in self._channels]

    async def aclose(self) -> None:
        """Close the channels."""
        self._stubs.clear()
        while self._channels:
            await self._channels.pop().close()

    def next(self) -> Stub | None:
        """Return the next address's stub, or ``None`` where no address is configured."""
        if not self._stubs:
            return None
        self._turn = (self._turn + 1) % len(self._stubs)
        return self._stubs[self._turn]
