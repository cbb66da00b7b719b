"""Real HTTP servers that answer as the providers outside do, and a running proxy in front of them."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from weir.common.app import App
from weir.common.calls import connect
from weir.common.config import Settings
from weir.frontier_proxy.app import build
from weir.v1 import frontier_proxy_pb2 as pb
from weir.v1 import frontier_proxy_pb2_grpc, types_pb2

DATA = Path(__file__).parents[1] / "data" / "frontier"
ANSWER = "Ein Wehr hält den Fluss auf: 水🌊."
RECORDED = {
    "openai": (DATA / "openai_chat.sse").read_bytes(),
    "openai_responses": (DATA / "openai_responses.sse").read_bytes(),
    "anthropic": (DATA / "anthropic_messages.sse").read_bytes(),
    "gemini": (DATA / "gemini_generate.sse").read_bytes(),
}


@dataclass
class Reply:
    """One answer: ``chunks`` one by one, then ``hold`` keeps the stream open or ``cut`` breaks it."""

    chunks: Sequence[bytes] = ()
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    hold: bool = False
    cut: bool = False
    sent: asyncio.Event = field(default_factory=asyncio.Event)
    disconnected: asyncio.Event = field(default_factory=asyncio.Event)

    async def write(self, request: web.Request) -> web.StreamResponse:
        content_type = "text/event-stream" if self.status == 200 else "application/json"
        response = web.StreamResponse(
            status=self.status, headers={"Content-Type": content_type, **self.headers}
        )
        await response.prepare(request)
        try:
            for chunk in self.chunks:
                await response.write(chunk)
            self.sent.set()
            if self.hold:
                await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.disconnected.set()
            raise
        if self.cut and request.transport:
            request.transport.close()
        return response


def error_reply(status: int, error: dict[str, Any], **headers: str) -> Reply:
    """An error in the form that all three providers share."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply([json.dumps({"error": error}).encode()], status, names)


def openai_chunks(
    *texts: str, finish: str | None = "stop", usage: tuple[int, int] | None = (9, 3)
) -> list[bytes]:
    """A chat completion stream; without ``finish`` it does not end."""
    choices: list[dict[str, Any]] = [{"index": 0, "delta": {"content": text}} for text in texts]
    if finish:
        choices.append({"index": 0, "delta": {}, "finish_reason": finish})
    chunks = [{"choices": [choice]} for choice in choices]
    if finish and usage:
        counts = {"prompt_tokens": usage[0], "completion_tokens": usage[1]}
        chunks.append({"choices": [], "usage": counts})  # type: ignore[dict-item]
    events = [b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks]
    return [*events, b"data: [DONE]\n\n"] if finish else events


class ProviderDouble:
    """Answers requests in turn with the queued replies and keeps what was asked."""

    def __init__(self) -> None:
        self.replies: deque[Reply] = deque()
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        # The other end of each request's connection.
        self.peers: list[object] = []
        self.url = ""

    def will(self, *replies: Reply) -> Reply:
        """Queue replies; returns the last."""
        self.replies.extend(replies)
        return replies[-1]

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.bodies.append(await request.json())
        self.headers.append(dict(request.headers))
        self.paths.append(request.path_qs)
        self.peers.append(request.transport and request.transport.get_extra_info("peername"))
        if not self.replies:
            return web.json_response({"error": {"type": "unexpected_request"}}, status=500)
        return await self.replies.popleft().write(request)

    @asynccontextmanager
    async def running(self, tls: ssl.SSLContext | None = None) -> AsyncIterator[ProviderDouble]:
        """Serve on a free port; at the end no queued reply may be left."""
        app = web.Application()
        app.router.add_post("/{path:.*}", self._handle)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
            self.url = f"{'https' if tls else 'http'}://127.0.0.1:{runner.addresses[0][1]}/v1"
            yield self
        finally:
            await runner.cleanup()
        assert not self.replies, f"{len(self.replies)} replies were never asked for"


@dataclass
class Proxy:
    """A running frontier proxy with a client's stub."""

    app: App
    stub: frontier_proxy_pb2_grpc.FrontierProxyServiceAsyncStub

    async def forward(
        self, request: pb.ForwardRequest, *, tenant: str = "", timeout: float = 20
    ) -> tuple[str, pb.FrontierFinished]:
        """Return the whole text and the end of an answer."""
        text, finished = "", pb.FrontierFinished()
        metadata = [("x-weir-tenant", tenant)] if tenant else []
        async for response in self.stub.Forward(request, timeout=timeout, metadata=metadata):
            text += response.delta.text
            if response.HasField("finished"):
                finished = response.finished
        return text, finished


@asynccontextmanager
async def proxy(settings: Settings) -> AsyncIterator[Proxy]:
    """Run the real service on a free port."""
    async with AsyncExitStack() as stack:
        app = await stack.enter_async_context(build(settings))
        channel = await stack.enter_async_context(connect(f"127.0.0.1:{app.port}"))
        yield Proxy(app, frontier_proxy_pb2_grpc.FrontierProxyServiceStub(channel))


def configured(settings: Settings, **sections: Any) -> Settings:
    """The settings with other ``frontier``, ``tiers`` or ``services`` sections; loopback is allowed."""
    changed = {**settings.model_dump(exclude_unset=True), **sections}
    frontier = changed.get("frontier", {})
    if providers := frontier.get("providers"):
        reachable = {name: {"allow_private": True, **given} for name, given in providers.items()}
        changed["frontier"] = {**frontier, "providers": reachable}
    return Settings.model_validate(changed)


def ask(text: str = "What is a weir?", **fields: Any) -> pb.ForwardRequest:
    """A request of one user turn."""
    prompt = types_pb2.Prompt(messages=[types_pb2.Message(role=types_pb2.ROLE_USER, content=text)])
    return pb.ForwardRequest(prompt=prompt, **fields)
