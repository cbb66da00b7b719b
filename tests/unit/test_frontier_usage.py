"""Usage objects of the four protocols, as the classes of tokens that are priced."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.frontier_proxy.domain import TokenCounts
from weir.frontier_proxy.providers.usage import (
    chat_counts,
    content_counts,
    message_counts,
    response_counts,
)


def test_a_chat_completion_tells_all_classes() -> None:
    usage = {
        "prompt_tokens": 100,
        "completion_tokens": 50,
        "total_tokens": 150,
        "prompt_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 10},
        "completion_tokens_details": {"reasoning_tokens": 20},
    }
    assert chat_counts(usage) == TokenCounts(100, 50, 60, 10, 20)


def test_reasoning_that_a_server_counts_apart_is_added_to_the_output() -> None:
    details = {"completion_tokens_details": {"reasoning_tokens": 20}}
    apart = {"prompt_tokens": 100, "completion_tokens": 30, "total_tokens": 150, **details}
    assert chat_counts(apart) == TokenCounts(100, 50, reasoning=20)


def test_a_response_tells_all_classes() -> None:
    usage = {
        "input_tokens": 100,
        "output_tokens": 50,
        "input_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 10},
        "output_tokens_details": {"reasoning_tokens": 20},
    }
    assert response_counts(usage) == TokenCounts(100, 50, 60, 10, 20)


def test_a_message_counts_what_is_cached_apart_and_its_last_event_completes_the_first() -> None:
    first = message_counts(
        {
            "input_tokens": 30,
            "cache_read_input_tokens": 60,
            "cache_creation_input_tokens": 10,
            "output_tokens": 1,
        },
        None,
    )
    assert first == TokenCounts(100, 1, 60, 10)
    last = {"output_tokens": 50, "output_tokens_details": {"thinking_tokens": 20}}
    assert message_counts(last, first) == TokenCounts(100, 50, 60, 10, 20)


def test_generated_content_counts_thoughts_as_output_and_tools_as_input() -> None:
    usage = {
        "promptTokenCount": 90,
        "toolUsePromptTokenCount": 10,
        "cachedContentTokenCount": 60,
        "candidatesTokenCount": 30,
        "thoughtsTokenCount": 20,
    }
    assert content_counts(usage) == TokenCounts(100, 50, 60, 0, 20)


@pytest.mark.parametrize("read", [chat_counts, response_counts, content_counts])
def test_no_usage_is_no_count(read: Any) -> None:
    assert read(None) is None
    assert read({}) is None


NUMBERS = st.one_of(st.none(), st.booleans(), st.text(max_size=3), st.floats(), st.integers(-5, 10**12))
USAGES = st.dictionaries(
    st.sampled_from(
        [
            "prompt_tokens",
            "completion_tokens",
            "total_tokens",
            "input_tokens",
            "output_tokens",
            "cache_read_input_tokens",
            "cache_creation_input_tokens",
            "promptTokenCount",
            "candidatesTokenCount",
            "thoughtsTokenCount",
            "cachedContentTokenCount",
            "prompt_tokens_details",
            "completion_tokens_details",
            "input_tokens_details",
            "output_tokens_details",
        ]
    ),
    st.one_of(
        NUMBERS,
        st.dictionaries(
            st.sampled_from(["cached_tokens", "cache_write_tokens", "reasoning_tokens", "thinking_tokens"]),
            NUMBERS,
        ),
    ),
)


@given(USAGES)
def test_whatever_is_told_the_parts_never_exceed_the_whole(usage: dict[str, Any]) -> None:
    read = [chat_counts(usage), response_counts(usage), message_counts(usage, None), content_counts(usage)]
    for counts in filter(None, read):
        assert counts.prompt > 0
        assert counts.cached >= 0
        assert counts.cache_write >= 0
        assert counts.cached + counts.cache_write <= counts.prompt
        assert 0 <= counts.reasoning <= counts.completion
