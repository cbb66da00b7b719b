"""The server interceptor: runs every handler inside its scopes and answers failures from the catalog."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager
from typing import Any

import grpc

from weir.common.context import CallInfo, enter_call
from weir.common.errors import ErrorCode, WeirError
from weir.common.errors.grpc import abort, translate
from weir.common.grpc_types import ServicerContext
from weir.common.interceptors.decoding import checked, tolerant
from weir.common.interceptors.scopes import Rpc, Scope, record_failure
from weir.common.propagation import CREDENTIAL_KEYS, REQUEST_ID_KEY, TENANT_KEY

MAX_ID_LENGTH = 128


class _StalledReaderError(WeirError):
    """The client does not take ``write``."""

    def __init__(self, write: asyncio.Future[None]) -> None:
        super().__init__(ErrorCode.READER_STALLED)
        self.write = write


class ScopeInterceptor(grpc.aio.ServerInterceptor):
    """Runs handlers as plain coroutines that write their messages.

    gRPC does not close a handler's generator when the client cancels; a coroutine is cancelled where it
    stands, so every ``finally`` below it runs in the RPC's own task. A message that the client does not
    take within ``stall_timeout_s`` ends the stream with READER_STALLED. ``guards`` are scopes that may
    refuse the call; those in ``scopes`` see how it ended.
    """

    def __init__(
        self,
        scopes: Sequence[Scope],
        *,
        stall_timeout_s: float,
        max_streams: int,
        guards: Sequence[Scope] = (),
    ) -> None:
        self._scopes, self._guards = tuple(scopes), tuple(guards)
        self._stall_timeout_s = stall_timeout_s
        self._max_streams = max_streams
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def wait_idle(self) -> None:
        """Return when no handler runs, their clean-up included."""
        await self._idle.wait()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        details: grpc.HandlerCallDetails,
    ) -> Any:
        """Replace the method's handler by one that runs it in its scopes."""
        handler = await continuation(details)
        if handler is None:
            return None
        method = details.method
        streams_in, streams_out = handler.request_streaming, handler.response_streaming
        if streams_out:
            kind = (
                grpc.stream_stream_rpc_method_handler if streams_in else grpc.unary_stream_rpc_method_handler
            )
            wrapped: Any = self._streaming(method, handler.stream_stream or handler.unary_stream)
        else:
            kind = grpc.stream_unary_rpc_method_handler if streams_in else grpc.unary_unary_rpc_method_handler
            wrapped = self._unary(method, handler.stream_unary or handler.unary_unary)
        return kind(wrapped, tolerant(handler.request_deserializer), handler.response_serializer)

    def _unary(self, method: str, behavior: Callable[[Any, ServicerContext], Awaitable[Any]]) -> Any:
        async def run(request: Any, context: ServicerContext) -> Any:
            async with self._served(method, request, context):
                return await behavior(checked(request), context)

        return run

    def _streaming(self, method: str, behavior: Callable[[Any, ServicerContext], Any]) -> Any:
        async def run(request: Any, context: ServicerContext) -> None:
            async with self._served(method, request, context) as rpc:
                result = behavior(checked(request), context)
                if not hasattr(result, "__aiter__"):  # a coroutine that writes by itself
                    await result
                    return
                async with aclosing(result) as messages:
                    async for message in messages:
                        await self._write(context, message)
                        rpc.messages_sent += 1

        return run

    async def _write(self, context: ServicerContext, message: object) -> None:
        write = asyncio.ensure_future(context.write(message))
        try:
            done, _ = await asyncio.wait([write], timeout=self._stall_timeout_s)
        except asyncio.CancelledError:
            write.cancel()
            raise
        if not done:
            raise _StalledReaderError(write)
        write.result()

    @asynccontextmanager
    async def _served(self, method: str, request: object, context: ServicerContext) -> AsyncIterator[Rpc]:
        rpc = _describe(method, request, context)
        enter_call(rpc.info)
        try:
            async with AsyncExitStack() as stack:
                if not rpc.quiet:
                    for scope in self._scopes:
                        await stack.enter_async_context(scope(rpc))
                stack.enter_context(_outcome(rpc))
                stack.enter_context(self._admitted(rpc))
                if not rpc.quiet:
                    for guard in self._guards:
                        await stack.enter_async_context(guard(rpc))
                yield rpc
        except grpc.aio.AbortError:
            raise
        except _StalledReaderError as error:
            # All is freed but the RPC itself: gRPC can send no status past a message that is not taken.
            await error.write
            await abort(context, error, rpc.info.request_id)
        except Exception as error:
            await abort(context, translate(error), rpc.info.request_id)

    @contextmanager
    def _admitted(self, rpc: Rpc) -> Iterator[None]:
        if rpc.quiet:
            yield
            return
        if self._in_flight >= self._max_streams:
            raise WeirError(ErrorCode.QUEUE_FULL, f"{self._max_streams} calls are being served already.")
        self._in_flight += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._in_flight -= 1
            if not self._in_flight:
                self._idle.set()


@contextmanager
def _outcome(rpc: Rpc) -> Iterator[None]:
    """Set the RPC's status before the scopes around it read it."""
    try:
        yield
    except asyncio.CancelledError:
        late = rpc.info.remaining() == 0
        rpc.status = grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.CANCELLED
        raise
    except Exception as error:
        record_failure(rpc, error)
        raise


def _describe(method: str, request: object, context: ServicerContext) -> Rpc:
    metadata = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
    # Taken out, so that nothing that shows a call's metadata shows them.
    credentials = tuple((key, metadata.pop(key)) for key in CREDENTIAL_KEYS if key in metadata)
    named = getattr(request, "request_id", "") or metadata.get(REQUEST_ID_KEY, "")
    remaining = context.time_remaining()
    info = CallInfo(
        request_id=named[:MAX_ID_LENGTH] or uuid.uuid4().hex,
        tenant=metadata.get(TENANT_KEY, "")[:MAX_ID_LENGTH],
        method=method,
        deadline=None if remaining is None else time.monotonic() + remaining,
        credentials=credentials,
    )
    return Rpc(info, metadata, context.peer() or "")
