"""Output constraints as the JSON Schemas that providers take."""

from __future__ import annotations

import json
from typing import Any

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
        schema = json.loads(constraint.value[0])
    except ValueError:
        schema = None
    if not isinstance(schema, dict):
        problem = "is not a JSON object"
        raise WeirError(ErrorCode.INVALID_CONSTRAINT, f"{path} {problem}.", fields={path: problem})
    return schema


def is_closed(schema: object, *, all_required: bool) -> bool:
    """Whether every object in ``schema`` forbids further members, as strict decoding wants it.

    With ``all_required`` each object must also require all of its members.
    """
    if isinstance(schema, list):
        return all(is_closed(part, all_required=all_required) for part in schema)
    if not isinstance(schema, dict):
        return True
    properties = schema.get("properties")
    if schema.get("type") == "object" or isinstance(properties, dict):
        if schema.get("additionalProperties") is not False:
            return False
        if all_required and set(schema.get("required", ())) != set(properties or {}):
            return False
    return all(is_closed(part, all_required=all_required) for part in schema.values())
