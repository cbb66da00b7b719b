"""Channels between services."""

from __future__ import annotations

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from weir.common.channels import connect


async def _serving(port: int = 0) -> tuple[grpc.aio.Server, int]:
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    return server, port


async def _asked(channel: grpc.aio.Channel) -> int:
    return (await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())).status


async def test_a_new_channel_does_not_wait_for_what_another_one_failed_at() -> None:
    server, port = await _serving()
    async with connect(f"127.0.0.1:{port}") as before:
        await _asked(before)
        await server.stop(0)
        with pytest.raises(grpc.aio.AioRpcError):
            await _asked(before)
        server, _ = await _serving(port)
        async with connect(f"127.0.0.1:{port}") as after:
            assert await _asked(after) == health_pb2.HealthCheckResponse.SERVING
        await server.stop(0)
