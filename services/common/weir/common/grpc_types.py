"""Short names for gRPC's generic types, which carry no information here."""

from __future__ import annotations

from typing import Any, TypeAlias

import grpc

ServicerContext: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
