"""Asking a server whether it serves, by ``grpc.health.v1``."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

POLL_S = 0.1
SERVING = health_pb2.HealthCheckResponse.SERVING
# Loopback is never reached through a proxy, whatever the environment says.
OPTIONS = (("grpc.enable_http_proxy", 0), ("grpc.max_reconnect_backoff_ms", 500))


async def wait_serving(target: str, service: str) -> None:
    """Return once ``service`` at ``target`` says SERVING; waits for the port to open, too."""
    while True:
        async with grpc.aio.insecure_channel(target, options=OPTIONS) as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            with contextlib.suppress(grpc.aio.AioRpcError):
                call = stub.Watch(health_pb2.HealthCheckRequest(service=service))
                try:
                    async for response in call:
                        if response.status == SERVING:
                            return
                finally:
                    call.cancel()
        await asyncio.sleep(POLL_S)
