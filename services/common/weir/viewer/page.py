"""The pages and their JSON API, on loopback: nothing but packaged files, everything under a strict CSP."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import get_args

from aiohttp import web

from weir.spending.source import SpendSource
from weir.viewer.changes import Changes
from weir.viewer.spend import SpendApi
from weir.viewer.store import Outcome, TraceStore

STATIC = Path(__file__).parent / "static"
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}
MAX_LIMIT = 500
_LOCAL_HOSTS = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:\d+)?", re.IGNORECASE)
_TRACE_ID = re.compile(r"[0-9a-f]{32}")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def build_page(store: TraceStore, changes: Changes, spend: SpendSource | None = None) -> web.Application:
    """Return the application that shows ``store``, and what ``spend`` tells."""
    api = _Api(store, changes)
    app = web.Application(middlewares=[_guard])
    app.add_routes(
        [
            web.get("/", _index),
            web.get("/trace/{trace_id}", _index),
            web.get("/spend", _index),
            web.get("/api/traces", api.traces),
            web.get("/api/traces/{trace_id}", api.trace),
            web.get("/api/changes", api.changes),
            web.get("/api/spend", SpendApi(spend).spend),
            web.static("/static", STATIC),
        ]
    )
    app.on_response_prepare.append(_add_headers)
    return app


@web.middleware
async def _guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    # A foreign name that resolves to loopback (DNS rebinding) would let any web page read the traces.
    if not _LOCAL_HOSTS.fullmatch(request.host):
        raise web.HTTPForbidden(text="This page answers to 127.0.0.1 and localhost alone.")
    return await handler(request)


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    del request
    response.headers.update(HEADERS)


async def _index(request: web.Request) -> web.StreamResponse:
    del request
    return web.FileResponse(STATIC / "index.html")


class _Api:
    def __init__(self, store: TraceStore, changes: Changes) -> None:
        self._store = store
        self._changes = changes

    async def traces(self, request: web.Request) -> web.Response:
        outcome = request.query.get("outcome") or None
        if outcome is not None and outcome not in get_args(Outcome):
            return _refusal(f"outcome is one of {', '.join(get_args(Outcome))}", 400)
        try:
            limit = min(MAX_LIMIT, max(1, int(request.query.get("limit", "100"))))
            before = int(request.query["before"]) if "before" in request.query else None
        except ValueError:
            return _refusal("limit and before are whole numbers", 400)
        found = await self._store.traces(
            limit=limit,
            tier=request.query.get("tier", ""),
            outcome=outcome,  # type: ignore[arg-type] # narrowed by get_args above
            before_ns=before,
        )
        return web.json_response({"traces": found, "totals": await self._store.totals()})

    async def trace(self, request: web.Request) -> web.Response:
        trace_id = request.match_info["trace_id"].lower()
        found = await self._store.trace(trace_id) if _TRACE_ID.fullmatch(trace_id) else None
        if found is None:
            return _refusal(
                "no such trace; it may not have arrived yet, or has made room for newer ones", 404
            )
        return web.json_response(found)

    async def changes(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            async with contextlib.aclosing(self._changes.watch()) as counts:
                async for count in counts:
                    await response.write(b": still here\n\n" if count is None else b"data: %d\n\n" % count)
        return response


def _refusal(text: str, status: int) -> web.Response:
    return web.json_response({"error": text}, status=status)
