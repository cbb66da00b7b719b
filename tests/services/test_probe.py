"""The health probe of containers against a real server."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from weir.common.probe import is_serving, main


async def test_a_serving_server_passes_and_one_that_drains_fails() -> None:
    server, servicer = grpc.aio.server(), health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        await servicer.set("", health_pb2.HealthCheckResponse.SERVING)
        assert await is_serving(target)
        assert not await is_serving(target, "weir.v1.NoSuchService")
        assert await asyncio.to_thread(main, [target]) == 0
        await servicer.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
        assert not await is_serving(target)
    finally:
        await server.stop(None)


async def test_a_closed_port_fails() -> None:
    assert not await is_serving("127.0.0.1:1")


@pytest.mark.parametrize("arguments", [[], ["no-port"], ["a:1", "b", "c"]])
def test_wrong_arguments_are_told_apart_from_bad_health(arguments: list[str]) -> None:
    assert main(arguments) == 2
