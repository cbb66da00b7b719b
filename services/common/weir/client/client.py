"""The client: generations as async iterators that cancel their call when they are left."""

from __future__ import annotations

import weakref
from collections.abc import AsyncIterator, Sequence
from typing import Any, Self

import grpc

from weir.client.errors import from_rpc_error
from weir.client.events import Decision, Delta, Event, Finished, decision, event
from weir.client.requests import Conversation, Output, Policy, Request, Sampling
from weir.v1 import router_pb2, router_pb2_grpc

DEFAULT_TARGET = "127.0.0.1:50051"
_OPTIONS = (
    ("grpc.max_receive_message_length", 8 * 2**20),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.service_config", '{"loadBalancingConfig": [{"round_robin": {}}]}'),
)
_NO_SAMPLING, _NO_OUTPUT, _NO_POLICY = Sampling(), Output(), Policy()


class Generation(AsyncIterator[Event]):
    """A running answer: iterate it for its events.

    Leaving it, by ``async with``, ``aclose()``, cancellation or the last reference to it going, cancels the
    call; the server stops decoding within a step.
    """

    def __init__(self, call: Any) -> None:
        self._call = call
        self._messages = aiter(call)
        # At interpreter exit the loop is gone, and the connection with it.
        weakref.finalize(self, call.cancel).atexit = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        try:
            while (found := event(await anext(self._messages))) is None:
                continue
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from None
        return found

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Cancel what has not ended. May be called at any time, twice too."""
        self._call.cancel()

    async def text(self) -> str:
        """Read to the end and return the whole answer."""
        return "".join([item.text async for item in self if isinstance(item, Delta)])

    async def result(self) -> tuple[Decision, str, Finished]:
        """Read to the end and return the decision, the whole answer and the account of it."""
        made: Decision | None = None
        end: Finished | None = None
        parts: list[str] = []
        async for item in self:
            match item:
                case Decision():
                    made = item
                case Delta():
                    parts.append(item.text)
                case Finished():
                    end = item
        if made is None or end is None:
            raise EOFError("the stream ended without Decision and Finished")
        return made, "".join(parts), end


class WeirClient:
    """A connection to a router.

    Args:
        target: host:port, dns:///name:port or unix:path.
        credentials: TLS credentials; plaintext without them.
        metadata: sent with every call, such as ``(("x-api-key", key),)`` or, in a trusted network,
            ``(("x-weir-tenant", "acme"),)``.

    All methods raise ``WeirClientError`` or the subclass that fits the status.
    """

    def __init__(
        self,
        target: str = DEFAULT_TARGET,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        metadata: Sequence[tuple[str, str]] = (),
    ) -> None:
        self._target, self._credentials, self._metadata = target, credentials, tuple(metadata)
        self._channel: grpc.aio.Channel | None = None
        self._live: weakref.WeakSet[Generation] = weakref.WeakSet()

    async def __aenter__(self) -> Self:
        self._connect()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def _connect(self) -> router_pb2_grpc.RouterServiceAsyncStub:
        if self._channel is None:
            if self._credentials is None:
                self._channel = grpc.aio.insecure_channel(self._target, options=_OPTIONS)
            else:
                self._channel = grpc.aio.secure_channel(self._target, self._credentials, options=_OPTIONS)
        return router_pb2_grpc.RouterServiceStub(self._channel)

    async def aclose(self) -> None:
        """Cancel every running generation and close the connection."""
        for generation in list(self._live):
            await generation.aclose()
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close()

    def generate(
        self,
        prompt: Conversation,
        *,
        sampling: Sampling = _NO_SAMPLING,
        output: Output = _NO_OUTPUT,
        policy: Policy = _NO_POLICY,
        request_id: str = "",
        token_detail: bool = False,
        timeout: float | None = None,
        metadata: Sequence[tuple[str, str]] = (),
    ) -> Generation:
        """Route and answer: one Decision, then text and any Handoffs, then one Finished.

        ``timeout`` is the hard deadline in seconds, carried to every service on the way.
        """
        request = Request(prompt, sampling, output, policy)
        message = router_pb2.GenerateRequest(
            request_id=request_id,
            prompt=request.prompt_proto(),
            policy=request.policy_proto(),
            token_detail=token_detail,
        )
        call = self._connect().Generate(message, timeout=timeout, metadata=(*self._metadata, *metadata))
        generation = Generation(call)
        self._live.add(generation)
        return generation

    async def route(
        self,
        prompt: Conversation,
        *,
        sampling: Sampling = _NO_SAMPLING,
        output: Output = _NO_OUTPUT,
        policy: Policy = _NO_POLICY,
        timeout: float | None = None,
    ) -> Decision:
        """Return the decision alone; nothing is generated."""
        request = Request(prompt, sampling, output, policy)
        message = router_pb2.RouteRequest(prompt=request.prompt_proto(), policy=request.policy_proto())
        response = await self._unary(self._connect().Route, message, timeout)
        return decision(response.decision)

    async def send_feedback(
        self,
        decision_id: str,
        *,
        acceptable: bool | None = None,
        score: float | None = None,
        comment: str = "",
        timeout: float | None = None,
    ) -> None:
        """Say what became of an answer; the classifier is retrained from this."""
        message = router_pb2.SendFeedbackRequest(
            decision_id=decision_id, acceptable=acceptable, score=score, comment=comment
        )
        await self._unary(self._connect().SendFeedback, message, timeout)

    async def status(self, *, timeout: float | None = None) -> router_pb2.GetStatusResponse:
        """Return what the router does at present and why: thresholds, measurements, classifiers."""
        response: router_pb2.GetStatusResponse = await self._unary(
            self._connect().GetStatus, router_pb2.GetStatusRequest(), timeout
        )
        return response

    async def _unary(self, method: Any, message: object, timeout: float | None) -> Any:
        try:
            return await method(message, timeout=timeout, metadata=self._metadata)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from None
