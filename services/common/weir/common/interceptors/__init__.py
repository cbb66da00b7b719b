"""What surrounds every served RPC: errors, ids, logs, counts, traces."""

from weir.common.interceptors.observers import AccessLog, Measured, Observer, Rpc, Tracing
from weir.common.interceptors.server import Guard, ServingInterceptor

__all__ = ["AccessLog", "Guard", "Measured", "Observer", "Rpc", "ServingInterceptor", "Tracing"]
