"""The viewer as one component: OTLP sink, store, and the pages of traces and spending."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
from aiohttp import web

from weir.spending.source import SpendSource
from weir.viewer.changes import Changes
from weir.viewer.page import build_page
from weir.viewer.sink import register
from weir.viewer.store import TraceStore

HOST = "127.0.0.1"
MAX_MESSAGE_BYTES = 16 * 1024 * 1024


class Viewer:
    """Receives spans on ``otlp_port`` and shows them on ``http_port``; 0 takes free ports.

    ``spend`` is what the spend page shows; it is closed with the viewer.

    Raises on ``start``: OSError or RuntimeError when a port is taken, sqlite3.OperationalError when
    ``database`` cannot be written.
    """

    def __init__(
        self,
        database: Path,
        *,
        http_port: int,
        otlp_port: int,
        max_traces: int = 5_000,
        spend: SpendSource | None = None,
    ) -> None:
        self._database = database
        self._max_traces = max_traces
        self._spend = spend
        self.http_port = http_port
        self.otlp_port = otlp_port
        self._store: TraceStore | None = None
        self._server: grpc.aio.Server | None = None
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """Address of the page."""
        return f"http://{HOST}:{self.http_port}"

    @property
    def otlp_endpoint(self) -> str:
        """Value for OTEL_EXPORTER_OTLP_ENDPOINT."""
        return f"http://{HOST}:{self.otlp_port}"

    @property
    def store(self) -> TraceStore:
        """The open store."""
        if self._store is None:
            raise RuntimeError("the viewer has not been started")
        return self._store

    async def start(self) -> None:
        """Open the store, then both ports."""
        changes = Changes(asyncio.get_running_loop())
        store = TraceStore(self._database, max_traces=self._max_traces, on_change=changes.note)
        await store.start()
        self._store = store
        self._server = grpc.aio.server(
            options=[("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES)]
        )
        register(self._server, store)
        self.otlp_port = self._server.add_insecure_port(f"{HOST}:{self.otlp_port}")
        await self._server.start()
        # Live-update connections never end by themselves: do not wait for them at the end.
        self._runner = web.AppRunner(
            build_page(store, changes, self._spend), access_log=None, shutdown_timeout=0.2
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, HOST, self.http_port).start()
        self.http_port = self._runner.addresses[0][1]

    async def aclose(self) -> None:
        """Close the ports and write what is pending. Idempotent, and safe after a failed start."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()
        server, self._server = self._server, None
        if server is not None:
            await server.stop(0.5)
        if self._spend is not None:
            await self._spend.aclose()
        if self._store is not None:
            await self._store.aclose()
