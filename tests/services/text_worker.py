"""A verifier on the real embedded model before a worker that writes text of another vocabulary."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.services.engine_cores import lending
from tests.services.verifier_bench import Answered, serving
from weir.common.calls import connect, stream_from
from weir.common.config import Settings
from weir.common.errors import WeirError
from weir.engines.core.engine import CoreEngine
from weir.v1 import slm_worker_pb2, slm_worker_pb2_grpc, types_pb2, verifier_pb2, verifier_pb2_grpc
from weir.verifier.app import build

Write = Callable[[str], str]
_PIECE = 7


@dataclass
class TextWorker(slm_worker_pb2_grpc.SlmWorkerServiceServicer):
    """Streams what ``write`` makes of the text said so far; fails or holds before a given piece."""

    write: Write
    tokenizer_sha256: str = "0" * 64
    capabilities: tuple[str, ...] = ()
    fail_at: int | None = None
    hold_at: int | None = None
    error: WeirError | None = None
    requests: list[slm_worker_pb2.CompleteRequest] = field(default_factory=list)
    asked: int = 0
    drafts: int = 0
    running: int = 0
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    holding: asyncio.Event = field(default_factory=asyncio.Event)
    idle: asyncio.Event = field(default_factory=asyncio.Event)

    def script(self, write: Write, **values: Any) -> None:
        """Start over with another behavior."""
        fresh = TextWorker(write)  # type: ignore[abstract]
        for name, value in {**fresh.__dict__, **values}.items():
            setattr(self, name, value)

    @property
    def said(self) -> list[str]:
        """The text that each call was to continue."""
        last = (request.prompt.messages[-1] for request in self.requests)
        return [turn.content if turn.role == types_pb2.ROLE_ASSISTANT else "" for turn in last]

    async def GetModelInfo(self, request: Any, context: Any) -> slm_worker_pb2.GetModelInfoResponse:
        del request, context
        self.asked += 1
        return slm_worker_pb2.GetModelInfoResponse(
            engine="openai", tokenizer_sha256=self.tokenizer_sha256, capabilities=self.capabilities
        )

    async def Draft(self, request_iterator: Any, context: Any) -> AsyncIterator[slm_worker_pb2.DraftResponse]:
        del context
        self.drafts += 1
        await anext(request_iterator)
        yield slm_worker_pb2.DraftResponse(finished=slm_worker_pb2.SlmFinished())

    async def Complete(self, request: Any, context: Any) -> AsyncIterator[slm_worker_pb2.CompleteResponse]:
        del context
        self.requests.append(request)
        self.running += 1
        self.idle.clear()
        self.begun.set()
        try:
            text, limit = self.write(self.said[-1]), request.prompt.sampling.max_tokens
            pieces = [text[at : at + _PIECE] for at in range(0, len(text), _PIECE)]
            for index, piece in enumerate([*pieces[:limit], ""]):
                await self._trouble(index)
                yield slm_worker_pb2.CompleteResponse(delta=types_pb2.TokenDelta(text=piece))
            cut = len(pieces) > limit
            reason = types_pb2.FINISH_REASON_LENGTH if cut else types_pb2.FINISH_REASON_STOP
            yield slm_worker_pb2.CompleteResponse(finished=slm_worker_pb2.SlmFinished(finish_reason=reason))
        finally:
            self.running -= 1
            if not self.running:
                self.idle.set()

    async def _trouble(self, index: int) -> None:
        if self.hold_at == index:
            self.holding.set()
            await asyncio.Event().wait()
        if self.error and self.fail_at == index:
            raise self.error


@dataclass
class TextBench:
    """The verifier's stub and the worker."""

    stub: Any
    worker: TextWorker
    known: dict[bytes, Answered] = field(default_factory=dict)

    async def generate(self, prompt: types_pb2.Prompt, **fields: Any) -> Answered:
        """Generate to the end."""
        request = verifier_pb2.GenerateVerifiedRequest(prompt=prompt, **fields)
        async with stream_from(self.stub.GenerateVerified, request) as responses:
            return Answered([response async for response in responses])

    async def alone(self, prompt: types_pb2.Prompt) -> Answered:
        """Generate what the verifier itself writes, once for each prompt."""
        asked = prompt.SerializeToString(deterministic=True)
        if asked not in self.known:
            self.worker.script(lambda said: "")
            self.known[asked] = await self.generate(prompt)
        return self.known[asked]


@asynccontextmanager
async def text_bench(engine: CoreEngine, worker_at: str = "", **hybrid: Any) -> AsyncIterator[TextBench]:
    """Start everything before the running ``engine``; ``hybrid`` goes to the tier's settings.

    A worker of the caller's at ``worker_at`` takes the place of the scripted one.
    """
    worker = TextWorker(lambda said: "")  # type: ignore[abstract]
    async with AsyncExitStack() as stack:
        address = await stack.enter_async_context(
            serving(
                "writer",
                lambda server: slm_worker_pb2_grpc.add_SlmWorkerServiceServicer_to_server(worker, server),
            )
        )
        service = {"port": 0, "drain_delay_s": 0, "drain_grace_s": 1, "slm_worker": [worker_at or address]}
        settings = Settings.model_validate({"services": {"verifier": service}, "tiers": {"hybrid": hybrid}})
        with lending(engine):
            verifier = build(settings)
        app = await stack.enter_async_context(verifier)
        channel = await stack.enter_async_context(connect(f"127.0.0.1:{app.port}"))
        yield TextBench(verifier_pb2_grpc.VerifierServiceStub(channel), worker)
