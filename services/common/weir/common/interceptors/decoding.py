"""Requests that are no messages: refused from the catalog, where gRPC itself would say UNKNOWN and why."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

from google.protobuf.message import DecodeError

from weir.common.errors import ErrorCode, WeirError

Deserializer = Callable[[bytes], Any]
_UNDECODABLE = object()


def tolerant(deserialize: Deserializer | None) -> Deserializer | None:
    """Return a deserializer that marks what it cannot read, for ``checked`` to refuse."""
    if deserialize is None:
        return None

    def decode(data: bytes) -> Any:
        try:
            return deserialize(data)
        except DecodeError:
            return _UNDECODABLE

    return decode


def checked(request: Any) -> Any:
    """Return the message, or the iterator over messages. Raises WeirError INVALID_REQUEST at a broken one."""
    if request is _UNDECODABLE:
        raise WeirError(ErrorCode.INVALID_REQUEST, "The bytes are no such message; text must be valid UTF-8.")
    return _checked_stream(request) if hasattr(request, "__aiter__") else request


async def _checked_stream(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for request in requests:
        yield checked(request)
