"""What a provider's refusal means: HTTP statuses and in-stream errors to the error catalog."""

from __future__ import annotations

import email.utils
import json
import re
import time
from collections.abc import Mapping
from typing import Any, NoReturn

import structlog

from weir.common.errors import ErrorCode, WeirError
from weir.frontier_proxy.providers.base import Access

log = structlog.get_logger(__name__)
_WORD = re.compile(r"[A-Za-z0-9_.\[\]-]{1,64}\Z")
# In-stream errors carry no status; these are the types that providers document for them.
_STREAM_STATUS = {
    "overloaded_error": 529,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "RESOURCE_EXHAUSTED": 429,
    "insufficient_quota": 429,
    "authentication_error": 401,
    "permission_error": 403,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "invalid_request_error": 400,
    "INVALID_ARGUMENT": 400,
}


def raise_for_status(access: Access, status: int, headers: Mapping[str, str], body: bytes) -> NoReturn:
    """Raise the WeirError for an answer that is not 200.

    The provider's sentence may repeat the prompt or the key, so only its short identifiers are passed on.
    """
    try:
        content = json.loads(body)
    except ValueError:
        content = {}
    raise _error(access, status, _facts(access, content), retry_after(headers))


def raise_for_event(access: Access, content: Mapping[str, Any]) -> NoReturn:
    """Raise the WeirError for an error object that came inside a stream that began with 200."""
    facts = _facts(access, content)
    status = next((_STREAM_STATUS[fact] for fact in facts.values() if fact in _STREAM_STATUS), 500)
    raise _error(access, status, facts, None)


def filtered(access: Access, reason: str) -> WeirError:
    """Return the error for an answer that the provider's own filter ended."""
    hint = f"The content filter of provider '{access.name}' ended the answer."
    return WeirError(ErrorCode.PROVIDER_REJECTED, hint, internal=reason, metadata={"provider": access.name})


def broke_off(access: Access) -> WeirError:
    """Return the error for a stream that ended without saying so."""
    hint = f"The stream of provider '{access.name}' ended before the answer did."
    return WeirError(ErrorCode.PROVIDER_FAILED, hint, metadata={"provider": access.name})


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Read the seconds to wait: ``retry-after-ms``, or ``Retry-After`` in seconds or as a date (RFC 9110)."""
    for name, unit in (("retry-after-ms", 1000.0), ("Retry-After", 1.0)):
        value = headers.get(name, "")
        if re.fullmatch(r"\d{1,9}(\.\d+)?", value):
            return float(value) / unit
    try:
        moment = email.utils.parsedate_to_datetime(headers.get("Retry-After", ""))
    except ValueError:
        return None
    return max(0.0, moment.timestamp() - time.time())


def _facts(access: Access, content: object) -> dict[str, str]:
    if isinstance(content, list) and content:
        content = content[0]
    error = content.get("error") if isinstance(content, dict) else None
    if not isinstance(error, dict):
        return {}
    picked = {name: str(error.get(name) or "") for name in ("type", "code", "param", "status")}
    key = access.key.get_secret_value() if access.key else "\0"
    return {name: value for name, value in picked.items() if _WORD.match(value) and key not in value}


def _error(access: Access, status: int, facts: Mapping[str, str], wait: float | None) -> WeirError:
    said = ", ".join(f"{name} {value}" for name, value in facts.items())
    answer = f"Provider '{access.name}' answered {status}{f' ({said})' if said else ''}."
    code, hint = _code(access, status, facts)
    metadata = {"provider": access.name, "http_status": str(status)}
    return WeirError(code, f"{answer} {hint}".strip(), retry_after_s=wait, metadata=metadata)


def _code(access: Access, status: int, facts: Mapping[str, str]) -> tuple[ErrorCode, str]:
    if status in (401, 403):
        return ErrorCode.PROVIDER_AUTH, f"Set a valid key in {access.key_source or 'its configuration'}."
    if status == 429 and "insufficient_quota" in facts.values():
        return ErrorCode.PROVIDER_AUTH, "The account behind the key has no quota left."
    if status == 429:
        return ErrorCode.RATE_LIMITED, ""
    if status in (408, 409, 425) or status >= 500 or status < 400:
        return ErrorCode.PROVIDER_FAILED, ""
    return ErrorCode.PROVIDER_REJECTED, ""


def parse(access: Access, data: str) -> dict[str, Any]:
    """Read one event's JSON object; anything else is a broken stream."""
    try:
        content = json.loads(data)
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise WeirError(
            ErrorCode.PROVIDER_FAILED,
            f"Provider '{access.name}' sent an event that is not a JSON object.",
            metadata={"provider": access.name},
        )
    return content
