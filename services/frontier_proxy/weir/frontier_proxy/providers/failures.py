"""What a provider's refusal means: HTTP statuses and in-stream errors to the error catalog."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NoReturn

import msgspec

from weir.common.errors import ErrorCode, WeirError
from weir.frontier_proxy.providers.base import Access
from weir.frontier_proxy.providers.rate_limits import duration, retry_after

_WORD = re.compile(r"[A-Za-z0-9_.\[\]-]{1,64}\Z")
_TYPE = re.compile(r"[a-z]{1,16}/[a-z0-9.+-]{1,48}\Z")
_HTTP_ERROR = re.compile(r"[45]\d\d\Z")
# In-stream errors carry no status; these are the types that providers document for them.
_STREAM_STATUS = {
    "overloaded_error": 529,
    "timeout_error": 504,
    "UNAVAILABLE": 503,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "RESOURCE_EXHAUSTED": 429,
    "insufficient_quota": 429,
    "request_too_large": 413,
    "not_found_error": 404,
    "NOT_FOUND": 404,
    "permission_error": 403,
    "PERMISSION_DENIED": 403,
    "billing_error": 402,
    "authentication_error": 401,
    "invalid_api_key": 401,
    "UNAUTHENTICATED": 401,
    "API_KEY_INVALID": 401,
    "invalid_request_error": 400,
    "invalid_prompt": 400,
    "data_residency_mismatch": 400,
    "bio_policy": 400,
    "context_length_exceeded": 400,
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
}


def raise_for_status(access: Access, status: int, headers: Mapping[str, str], body: bytes) -> NoReturn:
    """Raise the WeirError for an answer that is not 200.

    The provider's sentence may repeat the prompt or the key, so only its short identifiers are passed on.
    """
    content, wait = _json(body), retry_after(headers)
    raise _error(access, status, _facts(access, content), _wait_in(content) if wait is None else wait)


def told(access: Access, content: Mapping[str, Any]) -> WeirError:
    """Return the error for an error object that came inside a stream that began with 200."""
    facts = _facts(access, content)
    status = next((_STREAM_STATUS[fact] for fact in facts.values() if fact in _STREAM_STATUS), None)
    if status is None:
        code = facts.get("code", "")
        status = int(code) if _HTTP_ERROR.match(code) else 500
    return _error(access, status, facts, _wait_in(content))


def filtered(access: Access, reason: str) -> WeirError:
    """Return the error for an answer that the provider's own filter ended."""
    hint = f"The content filter of provider '{access.name}' ended the answer."
    return WeirError(ErrorCode.PROVIDER_REJECTED, hint, internal=reason, metadata={"provider": access.name})


def broke_off(access: Access) -> WeirError:
    """Return the error for a stream that ended without saying so."""
    hint = f"The stream of provider '{access.name}' ended before the answer did."
    return WeirError(ErrorCode.PROVIDER_FAILED, hint, metadata={"provider": access.name})


def refused(access: Access) -> WeirError:
    """Return the error for a model that refused to give an answer of the wanted form."""
    hint = f"The model of provider '{access.name}' refused to answer."
    return WeirError(ErrorCode.PROVIDER_REJECTED, hint, metadata={"provider": access.name})


def malformed(access: Access, problem: str) -> WeirError:
    """Return the error for an event that is JSON of another shape than the protocol's."""
    hint = f"Provider '{access.name}' sent an event that its protocol does not know."
    return WeirError(ErrorCode.PROVIDER_FAILED, hint, internal=problem, metadata={"provider": access.name})


def no_stream(access: Access, content_type: str) -> WeirError:
    """Return the error for an answer with status 200 that no provider gives: a page of something between."""
    found = f": {content_type}" if _TYPE.match(content_type) else ""
    hint = f"Provider '{access.name}' answered with something other than an event stream{found}."
    return WeirError(ErrorCode.PROVIDER_FAILED, hint, metadata={"provider": access.name})


def _object(content: object) -> Mapping[str, Any]:
    """Find the error object: under ``error``, in a list, or the event itself."""
    if isinstance(content, list) and content:
        content = content[0]
    if not isinstance(content, Mapping):
        return {}
    error = content.get("error")
    if isinstance(error, Mapping):
        return error
    return content if "error" in (content.get("type"), content.get("object")) else {}


def _facts(access: Access, content: object) -> dict[str, str]:
    error = _object(content)
    picked = {name: str(error.get(name) or "") for name in ("type", "code", "param", "status")}
    # Google tells an expired key from a bad argument only here.
    picked["reason"] = next((str(d["reason"]) for d in _details(error) if d.get("reason")), "")
    return {
        name: value
        for name, value in picked.items()
        if _WORD.match(value) and not access.entry.revealed_by(value) and value != "error"
    }


def _details(error: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    details = error.get("details")
    return [d for d in details if isinstance(d, Mapping)] if isinstance(details, list) else []


def _wait_in(content: object) -> float | None:
    """Read the ``google.rpc.RetryInfo`` of an error object, in seconds."""
    delays = (d.get("retryDelay") for d in _details(_object(content)))
    return next((duration(delay) for delay in delays if isinstance(delay, str)), None)


def _error(access: Access, status: int, facts: Mapping[str, str], wait: float | None) -> WeirError:
    said = ", ".join(f"{name} {value}" for name, value in facts.items())
    answer = f"Provider '{access.name}' answered {status}{f' ({said})' if said else ''}."
    code, hint = _code(access, status, facts)
    metadata = {"provider": access.name, "http_status": str(status)}
    return WeirError(code, f"{answer} {hint}".strip(), retry_after_s=wait, metadata=metadata)


def _code(access: Access, status: int, facts: Mapping[str, str]) -> tuple[ErrorCode, str]:
    if status in (401, 403) or "API_KEY_INVALID" in facts.values():
        return ErrorCode.PROVIDER_AUTH, f"Set a valid key in {access.key_source or 'its configuration'}."
    if status == 402 or (status == 429 and "insufficient_quota" in facts.values()):
        return ErrorCode.PROVIDER_AUTH, "The account behind the key has no quota left."
    if status == 429:
        return ErrorCode.RATE_LIMITED, ""
    if status in (408, 409, 425) or status >= 500 or status < 400:
        return ErrorCode.PROVIDER_FAILED, ""
    return ErrorCode.PROVIDER_REJECTED, ""


def parse(access: Access, data: str) -> dict[str, Any]:
    """Read one event's JSON object; anything else is a broken stream."""
    content = _json(data)
    if not isinstance(content, dict):
        raise WeirError(
            ErrorCode.PROVIDER_FAILED,
            f"Provider '{access.name}' sent an event that is not a JSON object.",
            metadata={"provider": access.name},
        )
    return content


def _json(data: str | bytes) -> object:
    """Read JSON; ``None`` where it is none."""
    try:
        return msgspec.json.decode(data)
    except (ValueError, RecursionError):
        return _loose_json(data)


def _loose_json(data: str | bytes) -> object:
    """Read what is nearly JSON and some servers send: NaN, and halves of characters, which become "?"."""
    try:
        plain = json.dumps(json.loads(data), ensure_ascii=False)
        return json.loads(plain.encode(errors="replace"))
    except (ValueError, RecursionError):
        return None
