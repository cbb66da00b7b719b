"""The text that is classified: which turns, which wordpieces, which numbers."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer

from weir.engines.base import ChatMessage
from weir.router.classifier import artifact, routing_text
from weir.router.classifier.text import (
    MAX_EARLIER_CHARS,
    open_tokenizer,
    tokenize,
)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return open_tokenizer(artifact.PACKAGED / artifact.TOKENIZER)


def user(text: str) -> ChatMessage:
    return ChatMessage("user", text)


def test_single_turn_is_the_text() -> None:
    assert routing_text([ChatMessage("system", "Be brief."), user("What is a weir?")]) == "What is a weir?"


def test_earlier_turns_come_first_and_are_bounded() -> None:
    messages = [user("x" * 5000), ChatMessage("assistant", "A dam."), user("Why?")]
    text = routing_text(messages)
    assert text.endswith("A dam.\n\nWhy?")
    assert len(text) == MAX_EARLIER_CHARS + len("\n\nWhy?")


def test_last_user_turn_is_kept_whole() -> None:
    assert routing_text([user("hello"), user("y" * 5000)]).endswith("y" * 5000)


def test_open_assistant_turn_is_left_out() -> None:
    assert routing_text([user("Why?"), ChatMessage("assistant", "Because")]) == "Why?"


@pytest.mark.parametrize("messages", [[], [ChatMessage("system", "only this")], [user("")]])
def test_nothing_to_read_gives_empty_text(messages: list[ChatMessage]) -> None:
    assert routing_text(messages) == ""


def test_long_prompt_keeps_its_head_and_tail(tokenizer: Tokenizer) -> None:
    text = " ".join(["start"] * 300 + ["end"] * 300)
    pieces = tokenize(tokenizer, text, 256, [101], [102])
    start, end = tokenizer.token_to_id("start"), tokenizer.token_to_id("end")
    first, last = tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]")
    assert pieces.ids.tolist() == [first, *[start] * 127, *[end] * 127, last]
    assert pieces.total == 600


def test_short_prompt_is_kept_whole(tokenizer: Tokenizer) -> None:
    pieces = tokenize(tokenizer, "What is a dam?", 256, [101], [102])
    assert pieces.total == 5
    assert len(pieces.ids) == 7
