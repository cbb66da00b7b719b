"""Prompts are validated once, with the path of what is wrong, and survive the way there and back."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.common.errors import ErrorCode, WeirError
from weir.common.prompts import PromptSpec, prompt_from_proto, prompt_to_proto
from weir.engines.base import ChatMessage, Constraint, Sampling
from weir.v1 import types_pb2

_TEXT = st.text(min_size=1, max_size=20).filter(str.strip)


def _maybe(strategy: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.none() | strategy


_SPECS = st.builds(
    PromptSpec,
    st.lists(st.builds(ChatMessage, st.sampled_from(["system", "user", "assistant"]), _TEXT), min_size=1).map(
        tuple
    ),
    st.builds(
        Sampling,
        _maybe(st.integers(1, 1000)),
        _maybe(st.floats(0, 2, width=32)),
        _maybe(st.floats(0.0625, 1, width=32)),
        _maybe(st.integers(1, 100)),
        _maybe(st.integers(0, 2**63)),
        st.lists(_TEXT, max_size=3).map(tuple),
    ),
    st.none()
    | st.builds(Constraint, st.sampled_from(["json_schema", "regex", "grammar"]), st.tuples(_TEXT))
    | st.builds(Constraint, st.just("choices"), st.lists(_TEXT, min_size=1).map(tuple)),
)


@given(_SPECS)
def test_there_and_back_is_the_same(spec: PromptSpec) -> None:
    assert prompt_from_proto(prompt_to_proto(spec)) == spec


def _prompt(**sampling: float) -> types_pb2.Prompt:
    message = types_pb2.Message(role=types_pb2.ROLE_USER, content="Hello")
    return types_pb2.Prompt(messages=[message], sampling=types_pb2.SamplingParams(**sampling))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("sampling", "field"),
    [
        ({"temperature": math.nan}, "temperature"),
        ({"temperature": -1.0}, "temperature"),
        ({"temperature": math.inf}, "temperature"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_p": 1.5}, "top_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"top_k": 0}, "top_k"),
    ],
)
def test_bad_sampling_names_its_field(sampling: dict[str, float], field: str) -> None:
    with pytest.raises(WeirError) as caught:
        prompt_from_proto(_prompt(**sampling))
    assert caught.value.code is ErrorCode.INVALID_SAMPLING
    assert set(caught.value.fields) == {f"prompt.sampling.{field}"}


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [types_pb2.Message(role=types_pb2.ROLE_USER, content=" \n")],
        [types_pb2.Message(content="no role")],
        [types_pb2.Message(role=types_pb2.ROLE_USER, content="x" * 2000)],
    ],
)
def test_unusable_messages_are_refused(messages: list[types_pb2.Message]) -> None:
    with pytest.raises(WeirError) as caught:
        prompt_from_proto(types_pb2.Prompt(messages=messages), max_bytes=1000)
    assert caught.value.code is ErrorCode.INVALID_PROMPT
    assert caught.value.fields


def test_empty_constraint_is_refused() -> None:
    prompt = _prompt()
    prompt.output.json_schema = ""
    with pytest.raises(WeirError) as caught:
        prompt_from_proto(prompt)
    assert caught.value.code is ErrorCode.INVALID_CONSTRAINT
