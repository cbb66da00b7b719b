"""Channels to other services."""

from __future__ import annotations

from typing import Any

import grpc

KEEPALIVE_OPTIONS: tuple[tuple[str, Any], ...] = (
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
)
_OPTIONS: tuple[tuple[str, Any], ...] = (
    *KEEPALIVE_OPTIONS,
    ("grpc.max_receive_message_length", 8 * 2**20),
    # A replica that comes back is found within a second, not after gRPC's default of up to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # A channel to where another one just failed to connect need not wait as that one does.
    ("grpc.use_local_subchannel_pool", 1),
    # Services reach each other directly, whatever proxy the environment names for the world outside.
    ("grpc.enable_http_proxy", 0),
    # Retries belong to the caller nearest the client.
    ("grpc.enable_retries", 0),
    ("grpc.service_config", '{"loadBalancingConfig": [{"round_robin": {}}]}'),
)


def connect(target: str) -> grpc.aio.Channel:
    """Return a channel to host:port, dns:///name:port or unix:path; it connects when first used."""
    return grpc.aio.insecure_channel(target, options=_OPTIONS)
