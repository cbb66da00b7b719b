"""The drafter's side at text level: a worker's Complete call, which may fail without harm."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, suppress

import structlog

from weir.common.calls import stream_from
from weir.common.errors import ErrorCode, WeirError
from weir.common.prompts import PromptSpec
from weir.v1 import slm_worker_pb2
from weir.verifier import convert
from weir.verifier.drafts import PATIENCE_S, WorkerStub

log = structlog.get_logger(__name__)
_Responses = AsyncIterator[slm_worker_pb2.CompleteResponse]


class Writer:
    """Has a worker write on from a given text, and again from another; at most one call runs at a time.

    Args:
        stub: of the worker.
        request_id: of the answer.
        spec: what the worker is to answer, with ``max_tokens`` for each call.
        on_failure: called where a call fails.

    Attributes:
        failed: whether a call failed, after which none is to be started.
        cut_short: whether the last call that ended had been given too few tokens.
    """

    def __init__(
        self, stub: WorkerStub, request_id: str, spec: PromptSpec, on_failure: Callable[[], None]
    ) -> None:
        self._stub = stub
        self._request_id = request_id
        self._spec = spec
        self._on_failure = on_failure
        self._stack = AsyncExitStack()
        self._responses: _Responses | None = None
        self.failed = False
        self.cut_short = False

    @property
    def ended(self) -> bool:
        """Whether no call runs."""
        return self._responses is None

    async def start(self, said: str) -> None:
        """Cancel what runs and have the worker continue ``said``."""
        await self.stop()
        self.cut_short = False
        request = convert.continuation_request(self._request_id, self._spec, said)
        try:
            call = stream_from(self._stub.Complete, request)
            self._responses = await self._stack.enter_async_context(call)
        except WeirError as error:
            await self._lost("drafter_failed", error)

    async def read(self) -> str:
        """Return the next piece of text, empty where the call ended or failed.

        Raises:
            WeirError: DEADLINE of the answer itself.
        """
        try:
            async with asyncio.timeout(PATIENCE_S):
                while self._responses is not None:
                    response = await anext(self._responses, None)
                    if response is None or response.HasField("finished"):
                        self.cut_short = response is not None and convert.cut_short(response.finished)
                        break
                    if response.delta.text:
                        return response.delta.text
            await self.stop()
        except TimeoutError:
            await self._lost("drafter_stalled")
        except WeirError as error:
            await self._lost("drafter_failed", error)
        return ""

    async def stop(self) -> None:
        """Cancel the call, if one runs."""
        self._responses = None
        await self._stack.aclose()

    async def _lost(self, event: str, error: WeirError | None = None) -> None:
        self.failed = True
        self._responses = None
        self._on_failure()
        if error is None:
            log.info(event, level="text")
            await self._stack.aclose()
            return
        with suppress(WeirError):  # it passes through the call's span, which records it
            await self._stack.__aexit__(type(error), error, error.__traceback__)
        if error.code is ErrorCode.DEADLINE:
            raise error
        log.warning(event, level="text", code=error.code, detail=error.internal or error.hint)
