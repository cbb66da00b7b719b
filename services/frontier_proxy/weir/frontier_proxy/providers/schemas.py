"""Output constraints as the JSON Schemas that providers take."""

from __future__ import annotations

from typing import Any

import msgspec

from weir.common.errors import ErrorCode, WeirError
from weir.engines.base import Constraint

CHOICE_KEY = "choice"


def schema_of(constraint: Constraint) -> dict[str, Any]:
    """Return the JSON Schema for a constraint; choices become an object with one enumerated member.

    Raises:
        WeirError: INVALID_CONSTRAINT for a schema that is not a JSON object, UNSUPPORTED for other kinds.
    """
    if constraint.kind == "choices":
        member = {"type": "string", "enum": list(constraint.value)}
        return {
            "type": "object",
            "properties": {CHOICE_KEY: member},
            "required": [CHOICE_KEY],
            "additionalProperties": False,
        }
    if constraint.kind != "json_schema":
        raise WeirError(ErrorCode.UNSUPPORTED, f"Providers cannot hold an answer to a {constraint.kind}.")
    path = "prompt.output.json_schema"
    try:
        schema = msgspec.json.decode(constraint.value[0])
    except (ValueError, RecursionError):
        schema = None
    if not isinstance(schema, dict):
        problem = "is not a JSON object"
        raise WeirError(ErrorCode.INVALID_CONSTRAINT, f"{path} {problem}.", fields={path: problem})
    return schema


def is_closed(schema: object, *, all_required: bool) -> bool:
    """Whether every object in ``schema`` forbids further members, as strict decoding wants it.

    With ``all_required`` each object must also require all of its members.
    """
    # No recursion: callers nest schemas as deep as they like.
    left = [schema]
    while left:
        part = left.pop()
        if isinstance(part, list):
            left += part
        elif isinstance(part, dict):
            if not _object_is_closed(part, all_required=all_required):
                return False
            left += part.values()
    return True


def _object_is_closed(schema: dict[str, Any], *, all_required: bool) -> bool:
    properties = schema.get("properties")
    members = properties if isinstance(properties, dict) else {}
    if schema.get("type") != "object" and not isinstance(properties, dict):
        return True
    if schema.get("additionalProperties") is not False:
        return False
    required = schema.get("required", [])
    named = isinstance(required, list) and all(isinstance(name, str) for name in required)
    return not all_required or (named and set(required) == set(members))
