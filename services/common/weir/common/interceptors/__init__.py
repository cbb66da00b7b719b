"""What surrounds every served RPC: errors, ids, logs, counts, traces."""

from weir.common.interceptors.scopes import Measured, access_log, tracing
from weir.common.interceptors.server import ScopeInterceptor

__all__ = ["Measured", "ScopeInterceptor", "access_log", "tracing"]
