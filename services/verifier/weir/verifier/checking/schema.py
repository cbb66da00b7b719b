"""JSON answers against a JSON Schema, draft 2020-12. Runs in the checking process."""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.exceptions import SchemaError, ValidationError, best_match
from jsonschema_specifications import REGISTRY  # type: ignore[import-untyped]
from referencing.exceptions import Unresolvable

MAX_MESSAGE = 300


class BrokenConstraintError(ValueError):
    """The constraint itself cannot be used; the text says why."""


def violation(schema_text: str, answer: str) -> str:
    """Return where and how ``answer`` breaks the schema, or "".

    Formats are asserted. References outside the schema are refused: nothing is fetched.

    Raises:
        BrokenConstraintError: the schema is no JSON, no valid schema, or refers to what is not in it.
    """
    validator = _validator(schema_text)
    try:
        instance = json.loads(answer, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        return f"line {error.lineno}, column {error.colno}: not JSON: {error.msg}"
    except ValueError as error:
        return f"$: not JSON: {error}"
    except RecursionError:
        return "$: nested too deeply to be checked"
    try:
        worst = best_match(validator.iter_errors(instance))
    except Unresolvable as unresolved:
        raise BrokenConstraintError(f"it refers to {unresolved.ref!r}, which is not inside it") from None
    except RecursionError:
        raise BrokenConstraintError("it refers to itself without end, or is nested too deeply") from None
    except re.error as broken:
        raise BrokenConstraintError(f"its pattern {broken.pattern!r} cannot be used: {broken}") from None
    return _describe(worst) if worst else ""


def _validator(schema_text: str) -> Draft202012Validator:
    try:
        schema: Any = json.loads(schema_text)
    except ValueError as error:
        raise BrokenConstraintError(f"it is not JSON: {error}") from None
    except RecursionError:
        raise BrokenConstraintError("it is nested too deeply") from None
    if not isinstance(schema, dict | bool):
        raise BrokenConstraintError("a schema is a JSON object")
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        raise BrokenConstraintError(_describe(error)) from None
    except RecursionError:
        raise BrokenConstraintError("it is nested too deeply") from None
    # This registry knows the drafts' own schemas and retrieves nothing; the default one goes to the net.
    return Draft202012Validator(schema, registry=REGISTRY, format_checker=FormatChecker())


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _describe(error: ValidationError | SchemaError) -> str:
    text = error.message if len(error.message) <= MAX_MESSAGE else error.message[:MAX_MESSAGE] + "…"
    return f"{error.json_path}: {text}"
