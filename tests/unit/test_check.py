"""Constraint checks: JSON Schema 2020-12, regular expressions, choices, grammars, all bounded."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from weir.common.errors import ErrorCode, WeirError
from weir.engines.base import Constraint
from weir.verifier.checking.checker import Checker
from weir.verifier.checking.patterns import choices_violation, grammar_violation, regex_violation
from weir.verifier.checking.schema import BrokenConstraintError, violation


def against(schema: Any, answer: Any) -> str:
    return violation(json.dumps(schema), answer if isinstance(answer, str) else json.dumps(answer))


PERSON = {
    "$defs": {"age": {"type": "integer", "minimum": 0}},
    "type": "object",
    "properties": {"name": {"type": "string"}, "ages": {"type": "array", "items": {"$ref": "#/$defs/age"}}},
    "required": ["name"],
    "unevaluatedProperties": False,
}


def test_a_valid_answer_has_no_violation() -> None:
    assert against(PERSON, {"name": "Ada", "ages": [36]}) == ""


@pytest.mark.parametrize(
    ("answer", "where"),
    [
        ({"name": 5}, "$.name: 5 is not of type 'string'"),
        ({"ages": []}, "$: 'name' is a required property"),
        ({"name": "A", "ages": [1, -2]}, "$.ages[1]: -2 is less than the minimum of 0"),
        ({"name": "A", "pet": 1}, "$: Unevaluated properties are not allowed ('pet' was unexpected)"),
    ],
)
def test_a_violation_says_where_and_how(answer: Any, where: str) -> None:
    assert against(PERSON, answer) == where


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"prefixItems": [{"type": "string"}, {"type": "integer"}], "items": False}, ["a", 1], ["a", 1, 2]),
        ({"contains": {"const": 3}, "minContains": 2}, [3, 3], [3]),
        ({"dependentRequired": {"a": ["b"]}}, {"a": 1, "b": 2}, {"a": 1}),
        ({"if": {"const": 1}, "then": False, "else": {"type": "string"}}, "x", 1),
        ({"allOf": [{"properties": {"a": {}}}], "unevaluatedProperties": False}, {"a": 1}, {"b": 1}),
        ({"$dynamicAnchor": "n", "items": {"$dynamicRef": "#n"}, "type": "array"}, [[]], [1]),
        ({"format": "date-time"}, "2024-02-29T12:00:00Z", "2024-02-30T12:00:00Z"),
        ({"format": "email"}, "a@b.c", "nobody"),
        ({"format": "uuid"}, "2eb8aa08-aa98-11ea-b4aa-73b441d16380", "2eb8"),
        ({"format": "duration"}, "P1D", "1 day"),
        ({"$ref": "https://json-schema.org/draft/2020-12/schema"}, {"type": "string"}, {"type": "text"}),
    ],
)  # fmt: skip
def test_draft_2020_12_is_understood(schema: Any, good: Any, bad: Any) -> None:
    assert against(schema, json.dumps(good)) == ""
    assert against(schema, json.dumps(bad)) != ""


@pytest.mark.parametrize("answer", ["", "{", '{"a": NaN}', "[1,]", "{'a': 1}"])
def test_an_answer_that_is_no_json_is_a_violation(answer: str) -> None:
    assert "not JSON" in violation("{}", answer)


def test_an_answer_nested_without_end_is_a_violation() -> None:
    assert "nested too deeply" in violation("{}", "[" * 100_000)


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ("{", "not JSON"),
        ("[]", "JSON object"),
        ('{"type": "text"}', "$.type"),
        ('{"$ref": "https://example.com/other.json"}', "https://example.com/other.json"),
        ('{"$ref": "file:///etc/passwd"}', "file:///etc/passwd"),
        ('{"$ref": "#/$defs/absent"}', "absent"),
        ('{"$ref": "#"}', "refers to itself"),
        ('{"pattern": "("}', "("),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_a_broken_schema_is_refused_and_nothing_is_fetched(schema: str, reason: str) -> None:
    with pytest.raises(BrokenConstraintError) as refused:
        violation(schema, '"text"')
    assert reason in str(refused.value)


@pytest.mark.parametrize(
    ("pattern", "answer", "expected"),
    [
        (r"\d{3}-\d{2}", "123-45", ""),
        (r"\d{3}-\d{2}", "123-4x", "line 1, column 6: 'x'"),
        (r"\d{3}-\d{2}", "123-", "line 1, column 5: the end"),
        (r"(?s)a.b", "a\nc", "line 2, column 1: 'c'"),
        ("yes|no", "yes!", "line 1, column 4: '!'"),
    ],
)
def test_a_regex_must_match_the_whole_answer(pattern: str, answer: str, expected: str) -> None:
    assert regex_violation(pattern, answer).startswith(expected)
    assert bool(regex_violation(pattern, answer)) == bool(expected)


def test_a_broken_regex_is_refused() -> None:
    with pytest.raises(BrokenConstraintError, match="does not compile"):
        regex_violation("(", "x")


def test_a_catastrophic_regex_is_bounded() -> None:
    started = time.monotonic()
    with pytest.raises(BrokenConstraintError, match="backtracks"):
        regex_violation(r"(?:(a|aa)+)+(\1|b)$", "a" * 60 + "c")
    assert time.monotonic() - started < 10


def test_choices_name_the_nearest() -> None:
    assert choices_violation(["yes", "no"], "yes") == ""
    assert choices_violation(["approve", "reject"], "aprove").endswith("the nearest is 'approve'")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("12+3", ""),
        ("12+", "line 1, column 4: the end"),
        ("é", "line 1, column 1: 'é'"),
        ("1+2+x", "line 1, column 5"),
    ],
)
def test_a_grammar_says_where_the_answer_leaves_it(answer: str, expected: str) -> None:
    found = grammar_violation('root ::= num ("+" num)*\nnum ::= [0-9]+', answer)
    assert found.startswith(expected)
    assert bool(found) == bool(expected)


def test_a_broken_grammar_is_refused() -> None:
    with pytest.raises(BrokenConstraintError):
        grammar_violation("root ::= missing", "x")


@pytest.fixture
async def checker() -> AsyncIterator[Checker]:
    checker = Checker(timeout_s=1.5)
    try:
        yield checker
    finally:
        await checker.aclose()


async def test_the_process_answers_and_refuses(checker: Checker) -> None:
    assert await checker.violation(Constraint("json_schema", ('{"type": "string"}',)), '"a"') == ""
    assert "not of type" in await checker.violation(Constraint("json_schema", ('{"type": "null"}',)), '"a"')
    with pytest.raises(WeirError) as refused:
        await checker.violation(Constraint("json_schema", ('{"type": 1}',)), '"a"')
    assert refused.value.code is ErrorCode.INVALID_CONSTRAINT
    assert "prompt.output.json_schema" in refused.value.fields


async def test_a_schema_with_a_catastrophic_pattern_is_bounded_and_harms_no_later_check(
    checker: Checker,
) -> None:
    schema = json.dumps({"patternProperties": {"^(a|aa)+$": {}}, "unevaluatedProperties": False})
    with pytest.raises(WeirError) as refused:
        await checker.violation(Constraint("json_schema", (schema,)), json.dumps({"a" * 80 + "!": 1}))
    assert refused.value.code is ErrorCode.INVALID_CONSTRAINT
    assert "took more than" in refused.value.hint
    assert await checker.violation(Constraint("choices", ("a", "b")), "a") == ""
