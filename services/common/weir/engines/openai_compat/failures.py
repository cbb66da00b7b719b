"""A server's HTTP errors and broken connections in the words of our catalog."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
import msgspec

from weir.common.errors import ErrorCode, WeirError
from weir.engines.openai_compat.wire import ErrorBody, Failure

MAX_ERROR_BYTES = 64 * 1024

_CONTEXT_WORDS = (
    "exceed_context_size",
    "context_length_exceeded",
    "context length",
    "context size",
    "max_num_tokens",
)
_GONE = "The model's server does not answer; retry shortly, and check that it runs."


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request was, as far as its errors depend on it; ``max_context`` in tokens."""

    constrained: bool = False
    max_context: int = 0


async def response_error(response: aiohttp.ClientResponse, asked: Asked) -> WeirError:
    """Translate an error response. What the server wrote goes to the log alone."""
    text = await response.content.read(MAX_ERROR_BYTES)
    try:
        body = msgspec.json.decode(text, type=Failure).body
    except (msgspec.DecodeError, UnicodeDecodeError):
        body = ErrorBody(message=text[:500].decode(errors="replace"))
    return failure(response.status, body, asked, response.headers)


def failure(
    status: int, body: ErrorBody, asked: Asked, headers: Mapping[str, str] | None = None
) -> WeirError:
    """Translate a status and an error body, of a response or of an event in mid-stream."""
    internal = f"HTTP {status}: {body.message[:500]}"
    if status in (400, 413, 422):
        return _refused(body, asked, internal)
    code, hint = _BY_STATUS.get(
        status, (ErrorCode.ENGINE_CRASHED, "The model's server failed; retry shortly.")
    )
    return WeirError(code, hint, internal=internal, retry_after_s=_retry_after(headers or {}))


_AUTH = (
    ErrorCode.PROVIDER_AUTH,
    "The model's server refuses the key; set the variable named by run.api_key_env.",
)
_BY_STATUS = {
    401: _AUTH,
    403: _AUTH,
    404: (
        ErrorCode.UNKNOWN_MODEL,
        "The model's server does not have this model; correct model_id or base_url.",
    ),
    429: (ErrorCode.QUEUE_FULL, "The model's server is at capacity; retry after the given delay."),
    503: (ErrorCode.MODEL_UNAVAILABLE, "The model's server is not ready; retry after the given delay."),
}


def _refused(body: ErrorBody, asked: Asked, internal: str) -> WeirError:
    said = f"{body.type} {body.code} {body.message}".lower()
    if any(words in said for words in _CONTEXT_WORDS):
        return WeirError(
            ErrorCode.CONTEXT_TOO_LONG,
            f"Prompt and answer exceed the model's context of {asked.max_context} tokens; "
            "shorten the prompt or lower max_tokens.",
            internal=internal,
        )
    if asked.constrained:
        return WeirError(
            ErrorCode.INVALID_CONSTRAINT,
            "The model's server refuses the output constraint; simplify or correct it.",
            internal=internal,
        )
    return WeirError(
        ErrorCode.INVALID_REQUEST,
        "The model's server refuses the request; check its sampling parameters and the server's log.",
        internal=internal,
    )


def _retry_after(headers: Mapping[str, str]) -> float | None:
    try:
        return max(0.0, float(headers.get("Retry-After", "")))
    except ValueError:
        return None


@asynccontextmanager
async def connection_errors() -> AsyncIterator[None]:
    """Turn a refused, silent or broken connection into ENGINE_CRASHED or STREAM_BROKEN."""
    try:
        yield
    except aiohttp.ClientPayloadError as error:
        raise broken_off(repr(error)) from error
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise WeirError(ErrorCode.ENGINE_CRASHED, _GONE, internal=repr(error)) from error


def broken_off(internal: str) -> WeirError:
    """Describe a stream that ended, or became unreadable, before the answer did."""
    return WeirError(
        ErrorCode.STREAM_BROKEN,
        "The model's server broke off the answer; send the request again.",
        internal=internal,
    )
