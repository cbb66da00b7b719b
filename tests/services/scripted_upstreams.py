"""Real servers that answer for the router's upstreams as a test says, and a wire between that can be cut."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc

from weir.common.app import App
from weir.common.calls import connect
from weir.common.config import Settings
from weir.common.config.model import Service
from weir.common.context import current_call
from weir.common.errors import ErrorCode, WeirError
from weir.router.app import build
from weir.router.classifier.base import Assessment, DomainShare
from weir.v1 import (
    frontier_proxy_pb2,
    frontier_proxy_pb2_grpc,
    router_pb2,
    router_pb2_grpc,
    slm_worker_pb2,
    slm_worker_pb2_grpc,
    types_pb2,
    verifier_pb2,
    verifier_pb2_grpc,
)


@dataclass
class Script:
    """What a scripted tier says, and what it was asked."""

    pieces: list[str] = field(default_factory=lambda: ["one ", "two"])
    error: WeirError | None = None
    fail_at: int = 0
    hold_at: int | None = None
    finish: types_pb2.FinishReason.ValueType = types_pb2.FINISH_REASON_STOP
    cost_usd: float = 0.0
    calls: list[Any] = field(default_factory=list)
    deadlines: list[float | None] = field(default_factory=list)
    holding: asyncio.Event = field(default_factory=asyncio.Event)
    release: asyncio.Event = field(default_factory=asyncio.Event)
    closed: asyncio.Event = field(default_factory=asyncio.Event)

    async def deltas(
        self, request: Any, source: types_pb2.Source.ValueType
    ) -> AsyncIterator[types_pb2.TokenDelta]:
        self.calls.append(request)
        self.deadlines.append(current_call().remaining())
        try:
            for index, piece in enumerate(self.pieces):
                await self._pause(index)
                token = types_pb2.Token(id=index, source=source)
                yield types_pb2.TokenDelta(text=piece, tokens=[token], source=source)
            await self._pause(len(self.pieces))
        finally:
            self.closed.set()

    async def _pause(self, index: int) -> None:
        if self.hold_at == index:
            self.holding.set()
            await self.release.wait()
        if self.error and self.fail_at == index:
            raise self.error

    def usage(self, tier: types_pb2.Tier.ValueType, model: str, **more: Any) -> types_pb2.Usage:
        return types_pb2.Usage(
            tier=tier,
            model=model,
            prompt_tokens=10,
            completion_tokens=len(self.pieces),
            cost_usd=self.cost_usd,
            **more,
        )


class ScriptedWorker(slm_worker_pb2_grpc.SlmWorkerServiceServicer):
    name, registrar = "weir.v1.SlmWorkerService", slm_worker_pb2_grpc.add_SlmWorkerServiceServicer_to_server

    def __init__(self, model: str = "smollm2-135m-instruct", adapters: tuple[str, ...] = ()) -> None:
        self.script = Script()
        self.model, self.adapters = model, adapters
        self.capabilities = ["json_schema", "regex", "choices", "lora"]
        self._load = slm_worker_pb2.WatchLoadResponse(capacity=8)
        self._changed = asyncio.Event()

    def set_load(self, **load: Any) -> None:
        self._load = slm_worker_pb2.WatchLoadResponse(**load)
        self._changed.set()
        self._changed = asyncio.Event()

    async def Complete(self, request: Any, context: Any) -> AsyncIterator[slm_worker_pb2.CompleteResponse]:
        async for delta in self.script.deltas(request, types_pb2.SOURCE_SLM):
            yield slm_worker_pb2.CompleteResponse(delta=delta)
        end = slm_worker_pb2.SlmFinished(
            finish_reason=self.script.finish, usage=self.script.usage(types_pb2.TIER_SLM, self.model)
        )
        yield slm_worker_pb2.CompleteResponse(finished=end)

    async def GetModelInfo(self, request: Any, context: Any) -> slm_worker_pb2.GetModelInfoResponse:
        return slm_worker_pb2.GetModelInfoResponse(
            model=self.model, max_context=8192, adapters=self.adapters, capabilities=self.capabilities
        )

    def Draft(self, request_iterator: Any, context: Any) -> Any:
        raise WeirError(ErrorCode.UNSUPPORTED)

    async def WatchLoad(self, request: Any, context: Any) -> AsyncIterator[slm_worker_pb2.WatchLoadResponse]:
        while True:
            changed = self._changed
            yield self._load
            await changed.wait()


class ScriptedVerifier(verifier_pb2_grpc.VerifierServiceServicer):
    name, registrar = "weir.v1.VerifierService", verifier_pb2_grpc.add_VerifierServiceServicer_to_server

    def __init__(self) -> None:
        self.script = Script()
        self.handoff: router_pb2.Handoff | None = None

    def Verify(self, request_iterator: Any, context: Any) -> Any:
        raise WeirError(ErrorCode.UNSUPPORTED)

    async def Score(self, request: Any, context: Any) -> Any:
        raise WeirError(ErrorCode.UNSUPPORTED)

    async def Check(self, request: Any, context: Any) -> Any:
        raise WeirError(ErrorCode.UNSUPPORTED)

    async def GenerateVerified(
        self, request: Any, context: Any
    ) -> AsyncIterator[verifier_pb2.GenerateVerifiedResponse]:
        async for delta in self.script.deltas(request, types_pb2.SOURCE_VERIFIER):
            yield verifier_pb2.GenerateVerifiedResponse(delta=delta)
        if self.handoff:
            yield verifier_pb2.GenerateVerifiedResponse(handoff=self.handoff)
        usage = self.script.usage(
            types_pb2.TIER_HYBRID, "smollm2-135m-instruct", drafted_tokens=4, accepted_tokens=3
        )
        end = verifier_pb2.VerifiedFinished(finish_reason=self.script.finish, usage=[usage])
        yield verifier_pb2.GenerateVerifiedResponse(finished=end)


class ScriptedFrontier(frontier_proxy_pb2_grpc.FrontierProxyServiceServicer):
    name, registrar = (
        "weir.v1.FrontierProxyService",
        frontier_proxy_pb2_grpc.add_FrontierProxyServiceServicer_to_server,
    )

    def __init__(self) -> None:
        self.script = Script(cost_usd=0.001)
        self.model = frontier_proxy_pb2.FrontierModel(
            model="gpt-4o",
            provider="test",
            input_usd_per_million=2.5,
            output_usd_per_million=10,
            max_context=128_000,
            available=True,
        )

    async def GetSpend(self, request: Any, context: Any) -> Any:
        raise WeirError(ErrorCode.UNSUPPORTED)

    async def Forward(self, request: Any, context: Any) -> AsyncIterator[frontier_proxy_pb2.ForwardResponse]:
        async for delta in self.script.deltas(request, types_pb2.SOURCE_FRONTIER):
            yield frontier_proxy_pb2.ForwardResponse(delta=delta)
        usage = self.script.usage(types_pb2.TIER_FRONTIER, "gpt-4o")
        end = frontier_proxy_pb2.FrontierFinished(finish_reason=self.script.finish, usage=[usage])
        yield frontier_proxy_pb2.ForwardResponse(finished=end)

    async def ListModels(self, request: Any, context: Any) -> frontier_proxy_pb2.ListModelsResponse:
        return frontier_proxy_pb2.ListModelsResponse(models=[self.model])


class Wire:
    """A TCP relay to a port: cutting it is what a killed process looks like from outside."""

    def __init__(self, port: int) -> None:
        self._target, self.port = port, 0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._relay, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        if self._server:
            self._server.close()
            self._server = None
        for writer in list(self._writers):
            writer.transport.abort()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ahead, behind = await asyncio.open_connection("127.0.0.1", self._target)
        for source, sink in ((reader, behind), (ahead, writer)):
            self._writers.add(sink)
            task = asyncio.create_task(self._pump(source, sink))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65536):
                sink.write(data)
                await sink.drain()
        except OSError:
            pass
        finally:
            self._writers.discard(sink)
            sink.transport.abort()


@asynccontextmanager
async def serve(servicer: Any) -> AsyncIterator[int]:
    """Run a scripted servicer on a free port, with errors, health and reflection as in production."""
    service = Service(port=0, drain_delay_s=0, drain_grace_s=0)
    app = App(
        "scripted",
        service,
        Settings(),
        register=lambda server: type(servicer).registrar(servicer, server),
        grpc_services=[servicer.name],
    )
    async with app:
        yield app.port


class FixedClassifier:
    """Gives every prompt the complexity and domain that the test sets; waits while ``held`` is not set."""

    revision = "test"

    def __init__(self, complexity: float) -> None:
        self.complexity = complexity
        self.domain = "general"
        self.seen: list[str] = []
        self.held = threading.Event()
        self.held.set()

    @property
    def prior(self) -> Assessment:
        return Assessment(0.4, 0.2, 0, ())

    def assess(self, texts: Sequence[str]) -> list[Assessment]:
        self.held.wait(20)
        self.seen.extend(texts)
        return [self._assess(text) for text in texts]

    def _assess(self, text: str) -> Assessment:
        domains = (DomainShare(self.domain, 0.9), DomainShare("other", 0.2))
        return Assessment(self.complexity, self.complexity / 2, len(text.split()), domains)


@dataclass
class Bench:
    """A router on scripted upstreams. ``wires`` cut an upstream by its name."""

    stub: router_pb2_grpc.RouterServiceAsyncStub
    classifier: FixedClassifier
    worker: ScriptedWorker
    verifier: ScriptedVerifier
    frontier: ScriptedFrontier
    wires: dict[str, Wire]
    app: App

    @property
    def scripts(self) -> dict[types_pb2.Tier.ValueType, Script]:
        return {
            types_pb2.TIER_SLM: self.worker.script,
            types_pb2.TIER_HYBRID: self.verifier.script,
            types_pb2.TIER_FRONTIER: self.frontier.script,
        }

    async def generate(self, text: str = "Say hello.", **more: Any) -> list[router_pb2.GenerateResponse]:
        return [event async for event in self.stub.Generate(ask(text, **more))]

    async def route(self, text: str = "Say hello.", **policy: Any) -> router_pb2.Decision:
        request = router_pb2.RouteRequest(prompt=prompt(text), policy=types_pb2.Policy(**policy))
        return (await self.stub.Route(request)).decision

    async def until(
        self, decided: Callable[[router_pb2.Decision], bool], **policy: Any
    ) -> router_pb2.Decision:
        """Ask until the router has taken notice of a change; it learns of them by watching."""
        async with asyncio.timeout(10):
            while True:
                try:
                    decision = await self.route(**policy)
                except grpc.aio.AioRpcError:
                    decision = router_pb2.Decision()
                if decided(decision):
                    return decision
                await asyncio.sleep(0.02)


def prompt(text: str, **more: Any) -> types_pb2.Prompt:
    return types_pb2.Prompt(messages=[types_pb2.Message(role=types_pb2.ROLE_USER, content=text)], **more)


def ask(
    text: str = "Say hello.", *, policy: types_pb2.Policy | None = None, **more: Any
) -> router_pb2.GenerateRequest:
    detail = more.pop("token_detail", False)
    return router_pb2.GenerateRequest(prompt=prompt(text, **more), policy=policy, token_detail=detail)


@asynccontextmanager
async def router_bench(
    settings: Settings, *, complexity: float = 0.1, worker: ScriptedWorker | None = None, **sections: Any
) -> AsyncIterator[Bench]:
    """Run a router before one scripted replica of each tier."""
    classifier = FixedClassifier(complexity)
    worker, verifier, frontier = worker or ScriptedWorker(), ScriptedVerifier(), ScriptedFrontier()
    async with AsyncExitStack() as stack:
        wires: dict[str, Wire] = {}
        for name, servicer in (("slm_worker", worker), ("verifier", verifier), ("frontier_proxy", frontier)):
            wires[name] = Wire(await stack.enter_async_context(serve(servicer)))
            await wires[name].open()
            stack.push_async_callback(wires[name].cut)
        targets = {name: [f"127.0.0.1:{wire.port}"] for name, wire in wires.items()}
        router = settings.services.router.model_copy(update=targets)
        services = settings.services.model_copy(update={"router": router})
        # The classifier's answers are changed by tests: a kept one would hide it.
        routing = sections.pop("routing", settings.routing)
        plain: dict[str, float] = {"cache_entries": 0, "time_limit_ms": 5_000}
        left = {name: value for name, value in plain.items() if name not in routing.runtime.model_fields_set}
        runtime = routing.runtime.model_copy(update=left)
        sections["routing"] = routing.model_copy(update={"runtime": runtime})
        adapted = settings.model_copy(update={"services": services, **sections})
        app = build(adapted, lambda _: classifier)
        await stack.enter_async_context(app)
        channel = connect(f"127.0.0.1:{app.port}")
        stack.push_async_callback(channel.close)
        stub = router_pb2_grpc.RouterServiceStub(channel)
        yield Bench(stub, classifier, worker, verifier, frontier, wires, app)
