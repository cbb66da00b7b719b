"""Output constraints at the boundary: refused early when broken, checked again when the answer is whole."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import regex
from jsonschema import Draft202012Validator, SchemaError, ValidationError, validators
from referencing import Registry
from referencing.exceptions import Unresolvable

from weir.common.errors import ErrorCode, WeirError
from weir.engines.base import Constraint

# Returns what is wrong with an answer, ``None`` when nothing is.
Checker = Callable[[str], str | None]
PATTERN_TIMEOUT_S = 0.25


def checker(constraint: Constraint) -> Checker | None:
    """Build the check; ``None`` where only the decoder can tell (a grammar). Blocks for milliseconds.

    Raises:
        WeirError: INVALID_CONSTRAINT for a schema that is no JSON or no JSON Schema.
    """
    if constraint.kind == "json_schema":
        return _schema_checker(constraint.value[0])
    if constraint.kind == "choices":
        return lambda text: None if text in constraint.value else "is none of the choices"
    if constraint.kind == "regex":
        return _regex_checker(constraint.value[0])
    return None


def _broken(problem: str) -> WeirError:
    field = "prompt.output.json_schema"
    return WeirError(ErrorCode.INVALID_CONSTRAINT, f"{field}: {problem}.", fields={field: problem})


def _schema_checker(text: str) -> Checker | None:
    try:
        schema = json.loads(text)
        Draft202012Validator.check_schema(schema)
    except (json.JSONDecodeError, RecursionError) as error:
        raise _broken(f"is not valid JSON: {error}"[:300]) from None
    except SchemaError as error:
        raise _broken(f"is not a JSON Schema at {error.json_path}: {error.message}"[:300]) from None
    if "patternProperties" in text:
        # The validator matches these with a backtracking engine that no time limit can stop.
        return None
    validator = _Validator(schema, registry=Registry())

    def check(answer: str) -> str | None:
        try:
            error = next(validator.iter_errors(json.loads(answer)), None)
        except json.JSONDecodeError as broken:
            return f"is not valid JSON: {broken}"
        except (Unresolvable, TimeoutError, regex.error, RecursionError):
            return None
        return f"{error.json_path}: {error.message}" if error else None

    return check


def _regex_checker(pattern: str) -> Checker | None:
    try:
        compiled = regex.compile(pattern)
    except regex.error:
        # A dialect that the decoder knows and this library does not.
        return None

    def check(answer: str) -> str | None:
        try:
            matched = compiled.fullmatch(answer, timeout=PATTERN_TIMEOUT_S)
        except TimeoutError:
            return None
        return None if matched else "does not match the expression"

    return check


def _pattern(validator: Any, pattern: str, instance: Any, schema: Any) -> Any:
    del schema
    if validator.is_type(instance, "string") and not regex.search(
        pattern, instance, timeout=PATTERN_TIMEOUT_S
    ):
        yield ValidationError(f"does not match {pattern!r}")


_Validator: Any = validators.extend(Draft202012Validator, {"pattern": _pattern})  # type: ignore[no-untyped-call]
