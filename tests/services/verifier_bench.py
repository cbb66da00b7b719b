"""A verifier on the real embedded model between a scripted drafter and a scripted frontier."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc

from tests.services.engine_cores import lending
from weir.common.app import App
from weir.common.calls import connect, stream_from
from weir.common.config import Settings
from weir.common.config.model import Service
from weir.common.errors import WeirError
from weir.engines.base import Capability
from weir.engines.core.engine import CoreEngine
from weir.v1 import (
    frontier_proxy_pb2,
    frontier_proxy_pb2_grpc,
    slm_worker_pb2,
    slm_worker_pb2_grpc,
    types_pb2,
    verifier_pb2,
    verifier_pb2_grpc,
)
from weir.verifier.app import build

Propose = Callable[[list[int]], Sequence[int]]


def _as_it_is(chunk: slm_worker_pb2.DraftChunk) -> None:
    del chunk


Mangle = Callable[[slm_worker_pb2.DraftChunk], None]


def nothing(said: list[int]) -> Sequence[int]:
    """Draft nothing: the stream ends at once."""
    del said
    return ()


@dataclass
class Drafter(slm_worker_pb2_grpc.SlmWorkerServiceServicer):
    """Drafts what ``propose`` makes of the tokens said so far; fails or holds before its nth chunk.

    ``mangle`` changes each chunk before it is sent.
    """

    propose: Propose = nothing
    tokenizer_sha256: str = ""
    true_sha256: str = ""
    fail_at: int | None = None
    hold_at: int | None = None
    error: WeirError | None = None
    mangle: Mangle = _as_it_is
    starts: list[slm_worker_pb2.DraftStart] = field(default_factory=list)
    acks: list[slm_worker_pb2.DraftAck] = field(default_factory=list)
    holding: asyncio.Event = field(default_factory=asyncio.Event)
    release: asyncio.Event = field(default_factory=asyncio.Event)
    closed: asyncio.Event = field(default_factory=asyncio.Event)

    def script(self, propose: Propose, **values: Any) -> None:
        """Start over with another behavior."""
        fresh = Drafter(  # type: ignore[abstract]
            propose, self.true_sha256, self.true_sha256
        )
        for name, value in {**fresh.__dict__, **values}.items():
            setattr(self, name, value)

    async def Draft(self, request_iterator: Any, context: Any) -> AsyncIterator[slm_worker_pb2.DraftResponse]:
        del context
        start = (await anext(request_iterator)).start
        self.starts.append(start)
        said: list[int] = []
        sequence, wanted, ahead = 0, start.chunk_tokens, start.chunks_ahead
        try:
            while tokens := list(self.propose(said))[:wanted]:
                await self._trouble(len(self.acks))
                chunk = slm_worker_pb2.DraftChunk(
                    sequence=sequence,
                    tokens=[types_pb2.Token(id=token) for token in tokens],
                    tokenizer_sha256=self.tokenizer_sha256,
                )
                self.mangle(chunk)
                yield slm_worker_pb2.DraftResponse(chunk=chunk)
                if (request := await anext(request_iterator, None)) is None:
                    return
                ack = request.ack
                self.acks.append(ack)
                said += [*tokens[: ack.accepted], *ack.correction]
                # It never drafts ahead, so that behind a correction it drafts anew.
                whole = ack.accepted == len(tokens) and not ack.correction
                sequence = ack.sequence + (1 if whole else ahead)
                wanted, ahead = ack.next_tokens or wanted, max(ahead, ack.chunks_ahead)
        finally:
            self.closed.set()

    async def GetModelInfo(self, request: Any, context: Any) -> slm_worker_pb2.GetModelInfoResponse:
        del request, context
        return slm_worker_pb2.GetModelInfoResponse(
            tokenizer_sha256=self.true_sha256, capabilities=[Capability.SESSION]
        )

    async def _trouble(self, sequence: int) -> None:
        if self.hold_at == sequence:
            self.holding.set()
            await self.release.wait()
        if self.error and self.fail_at == sequence:
            raise self.error


@dataclass
class FrontierDouble(frontier_proxy_pb2_grpc.FrontierProxyServiceServicer):
    """Says its pieces, or fails before the piece ``fail_at``."""

    pieces: Sequence[str] = (" and", " so on.")
    error: WeirError | None = None
    fail_at: int = 0
    finish_reason: types_pb2.FinishReason.ValueType = types_pb2.FINISH_REASON_STOP
    requests: list[frontier_proxy_pb2.ForwardRequest] = field(default_factory=list)

    def script(self, **values: Any) -> None:
        """Start over with another behavior."""
        for name, value in {**_untouched().__dict__, **values}.items():
            setattr(self, name, value)

    async def Forward(self, request: Any, context: Any) -> AsyncIterator[frontier_proxy_pb2.ForwardResponse]:
        del context
        self.requests.append(request)
        for index, piece in enumerate(self.pieces):
            if self.error and self.fail_at == index:
                raise self.error
            delta = types_pb2.TokenDelta(text=piece, source=types_pb2.SOURCE_FRONTIER)
            yield frontier_proxy_pb2.ForwardResponse(delta=delta)
        usage = types_pb2.Usage(tier=types_pb2.TIER_FRONTIER, model="frontier", cost_usd=0.25)
        yield frontier_proxy_pb2.ForwardResponse(
            finished=frontier_proxy_pb2.FrontierFinished(finish_reason=self.finish_reason, usage=[usage])
        )


def _untouched() -> FrontierDouble:
    return FrontierDouble()  # type: ignore[abstract]


@dataclass
class Answered:
    """A whole verified answer."""

    responses: list[verifier_pb2.GenerateVerifiedResponse]

    @property
    def deltas(self) -> list[types_pb2.TokenDelta]:
        return [response.delta for response in self.responses if response.HasField("delta")]

    @property
    def handoffs(self) -> list[Any]:
        return [response.handoff for response in self.responses if response.HasField("handoff")]

    @property
    def finished(self) -> verifier_pb2.VerifiedFinished:
        assert self.responses[-1].HasField("finished")
        return self.responses[-1].finished

    @property
    def text(self) -> str:
        return "".join(delta.text for delta in self.deltas)

    @property
    def tokens(self) -> list[types_pb2.Token]:
        return [token for delta in self.deltas for token in delta.tokens]

    @property
    def ids(self) -> list[int]:
        return [token.id for token in self.tokens]


@dataclass
class Bench:
    """The verifier's stub and the doubles around it."""

    stub: Any
    drafter: Drafter
    frontier: FrontierDouble

    async def generate(self, prompt: types_pb2.Prompt, **fields: Any) -> Answered:
        """Generate to the end."""
        request = verifier_pb2.GenerateVerifiedRequest(prompt=prompt, **fields)
        async with stream_from(self.stub.GenerateVerified, request) as responses:
            return Answered([response async for response in responses])

    async def alone(self, prompt: types_pb2.Prompt, **fields: Any) -> Answered:
        """Generate without drafts."""
        self.drafter.script(nothing)
        return await self.generate(prompt, **fields)


def prompt(text: str = "What is the capital of France?", **sampling: Any) -> types_pb2.Prompt:
    message = types_pb2.Message(role=types_pb2.ROLE_USER, content=text)
    parameters = types_pb2.SamplingParams(**{"max_tokens": 24, **sampling})
    return types_pb2.Prompt(messages=[message], sampling=parameters)


@asynccontextmanager
async def serving(name: str, register: Callable[[grpc.aio.Server], None]) -> AsyncIterator[str]:
    service = Service(port=0, drain_delay_s=0, drain_grace_s=0.5)
    async with App(name, service, Settings(), register=register, grpc_services=[]) as app:
        yield f"127.0.0.1:{app.port}"


@asynccontextmanager
async def verifier_bench(
    tokenizer_sha256: str,
    *,
    engine: CoreEngine | None = None,
    hybrid: Mapping[str, Any] | None = None,
    proxy_at: str = "",
    **run: Any,
) -> AsyncIterator[Bench]:
    """Start everything; ``run`` goes to the verifier's engine settings, ``hybrid`` to its tier's.

    An ``engine`` of the caller's takes the place of the verifier's own.
    A frontier proxy of the caller's at ``proxy_at`` takes the place of the scripted one.
    """
    drafter, frontier = Drafter(true_sha256=tokenizer_sha256), _untouched()  # type: ignore[abstract]
    async with AsyncExitStack() as stack:
        worker = await stack.enter_async_context(
            serving(
                "drafter",
                lambda server: slm_worker_pb2_grpc.add_SlmWorkerServiceServicer_to_server(drafter, server),
            )
        )
        proxy = await stack.enter_async_context(
            serving(
                "frontier",
                lambda server: frontier_proxy_pb2_grpc.add_FrontierProxyServiceServicer_to_server(
                    frontier, server
                ),
            )
        )
        service = {"port": 0, "drain_delay_s": 0, "drain_grace_s": 1, "slm_worker": [worker]}
        settings = Settings.model_validate(
            {
                "services": {"verifier": {**service, "frontier_proxy": [proxy_at or proxy]}},
                "tiers": {"hybrid": {**(hybrid or {}), "run": run}},
            }
        )
        with lending(engine):
            verifier = build(settings)
        app = await stack.enter_async_context(verifier)
        channel = await stack.enter_async_context(connect(f"127.0.0.1:{app.port}"))
        yield Bench(verifier_pb2_grpc.VerifierServiceStub(channel), drafter, frontier)
