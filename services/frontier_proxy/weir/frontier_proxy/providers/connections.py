"""What a connection that fails says about its provider."""

from __future__ import annotations

import aiohttp

from weir.common.errors import ErrorCode, WeirError
from weir.common.sse import SseOverflowError
from weir.frontier_proxy.network import PrivateAddressError
from weir.frontier_proxy.providers.base import Access

# What the transport and the reading of its bytes raise.
BROKEN = (aiohttp.ClientError, TimeoutError, SseOverflowError, OSError)


def broken(access: Access, error: Exception) -> WeirError:
    """Return PROVIDER_FAILED for one of ``BROKEN``.

    The transport's own words may hold addresses, so they are not repeated.
    """
    return WeirError(
        ErrorCode.PROVIDER_FAILED,
        f"The connection to provider '{access.name}' failed{_why(access, error)}.",
        internal=f"{access.name}: {type(error).__name__}",
        metadata={"provider": access.name},
    )


def _why(access: Access, error: Exception) -> str:
    """Say what the operator can do about it; nothing of the transport's own words."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f": its certificate is not trusted (frontier.providers.{access.name}.ca_bundle)"
    if isinstance(error, aiohttp.ClientProxyConnectionError | aiohttp.ClientHttpProxyError):
        return f": the HTTP proxy on the way did not connect (frontier.providers.{access.name}.proxy)"
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else None
    if isinstance(cause, PrivateAddressError):
        return f": it leads into a private network (frontier.providers.{access.name}.allow_private)"
    return ""
