"""Health probe of containers: ``python -m weir.common.probe HOST:PORT [SERVICE]`` exits 0 while serving."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence

import grpc
from grpc_health.v1 import health_pb2

_TIMEOUT_S = 3.0


async def is_serving(target: str, service: str = "", timeout: float = _TIMEOUT_S) -> bool:
    """Ask ``grpc.health.v1`` once; anything but SERVING within ``timeout`` seconds is a no."""
    async with grpc.aio.insecure_channel(target) as channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        try:
            answer = await check(health_pb2.HealthCheckRequest(service=service), timeout=timeout)
        except grpc.aio.AioRpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def main(arguments: Sequence[str]) -> int:
    """Return the exit status: 0 serving, 1 not, 2 for wrong arguments."""
    if not 1 <= len(arguments) <= 2 or ":" not in arguments[0]:
        print("usage: python -m weir.common.probe HOST:PORT [SERVICE]", file=sys.stderr)
        return 2
    target, service = (*arguments, "")[:2]
    return 0 if asyncio.run(is_serving(target, service)) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
