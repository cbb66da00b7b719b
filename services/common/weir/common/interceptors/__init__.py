"""What surrounds every served RPC: errors, ids, logs, counts, traces."""

from weir.common.interceptors.scopes import Measured, Rpc, Scope, access_log, tracing
from weir.common.interceptors.server import ScopeInterceptor

__all__ = ["Measured", "Rpc", "Scope", "ScopeInterceptor", "access_log", "tracing"]
