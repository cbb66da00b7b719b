"""Output constraints as the JSON Schemas that providers take; what cannot be sent is the caller's error."""

from __future__ import annotations

import pytest

from weir.common.errors import ErrorCode, WeirError
from weir.engines.base import Constraint
from weir.frontier_proxy.providers.schemas import is_closed, schema_of


@pytest.mark.parametrize(
    "text",
    ["[1", "[]", '"text"', '{"maximum": NaN}', r'{"const": "\ud83c"}', '{"not": ' * 100_000],
    ids=["cut", "list", "string", "no-number", "half-a-character", "deep"],
)
def test_a_schema_that_is_no_json_object_is_refused(text: str) -> None:
    with pytest.raises(WeirError) as caught:
        schema_of(Constraint("json_schema", (text,)))
    assert caught.value.code is ErrorCode.INVALID_CONSTRAINT
    assert caught.value.fields == {"prompt.output.json_schema": "is not a JSON object"}


def test_a_schema_is_sent_as_it_was_written() -> None:
    text = '{"type": "object", "properties": {"Fluss": {"const": "Oder 水"}, "n": {"maximum": 1e3}}}'
    members = {"Fluss": {"const": "Oder 水"}, "n": {"maximum": 1000.0}}
    assert schema_of(Constraint("json_schema", (text,))) == {"type": "object", "properties": members}


CLOSED = {"type": "object", "properties": {"a": {}}, "required": ["a"], "additionalProperties": False}


@pytest.mark.parametrize(
    ("schema", "closed", "all_required"),
    [
        (CLOSED, True, True),
        ({"anyOf": [CLOSED, {"type": "string"}]}, True, True),
        ({**CLOSED, "required": []}, True, False),
        ({**CLOSED, "additionalProperties": True}, False, False),
        ({**CLOSED, "properties": {"a": {"items": {"type": "object"}}}}, False, False),
        ({"properties": {}}, False, False),
        ({"type": "object", "additionalProperties": False, "properties": 5}, True, True),
        ({**CLOSED, "required": 5}, True, False),
        ({**CLOSED, "required": [["a"]]}, True, False),
    ],
)
def test_a_closed_schema_forbids_other_members_everywhere(
    schema: object, closed: bool, all_required: bool
) -> None:
    assert is_closed(schema, all_required=False) is closed
    assert is_closed(schema, all_required=True) is all_required


def test_a_schema_may_be_nested_deeper_than_functions_may() -> None:
    schema = schema_of(Constraint("json_schema", ('{"not": ' * 900 + "{}" + "}" * 900,)))
    assert is_closed(schema, all_required=True)
