"""Text as it comes: whole characters, no stop string, and the same however the tokens are cut."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from weir.engines.text.incremental import IncrementalText

STOPS = st.lists(st.text("abé🙂\n", min_size=1, max_size=4), max_size=3)


def stream(data: bytes, cuts: list[int], stops: list[str]) -> tuple[list[str], bool]:
    """Feed ``data`` cut at ``cuts`` as tokens; return the deltas and whether a stop string was met."""
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    pieces = [data[start:end] for start, end in pairwise(edges)]
    text = IncrementalText(pieces.__getitem__, stops)
    return [*(text.push(i) for i in range(len(pieces))), text.flush()], text.stopped


def expected(text: str, stops: list[str]) -> str:
    """Cut ``text`` before the stop string that is complete first."""
    ends = [(text.find(stop) + len(stop), text.find(stop)) for stop in stops if stop in text]
    if not ends:
        return text
    first = min(ends)[0]
    return text[: min(start for end, start in ends if end <= first)]


@given(st.text("abé🙂\n", max_size=30), st.lists(st.integers(0, 60), max_size=20))
def test_any_cut_gives_the_same_text_in_whole_characters(text: str, cuts: list[int]) -> None:
    deltas, _ = stream(text.encode(), cuts, [])
    assert "".join(deltas) == text
    assert all("\ufffd" not in delta for delta in deltas)


@given(st.text("abé🙂\n", max_size=30), st.lists(st.integers(0, 60), max_size=20), STOPS)
def test_no_stop_string_is_ever_sent(text: str, cuts: list[int], stops: list[str]) -> None:
    deltas, stopped = stream(text.encode(), cuts, stops)
    sent = "".join(deltas)
    assert stopped == any(stop in text for stop in stops)
    assert text.startswith(sent)
    assert not any(stop in sent for stop in stops)


@given(st.text("abé🙂\n", max_size=30), STOPS)
def test_one_byte_at_a_time_the_text_ends_before_the_first_stop_string(text: str, stops: list[str]) -> None:
    deltas, _ = stream(text.encode(), list(range(200)), stops)
    assert "".join(deltas) == expected(text, stops)


@given(st.binary(max_size=30), st.lists(st.integers(0, 30), max_size=10))
def test_broken_bytes_become_replacement_characters(data: bytes, cuts: list[int]) -> None:
    deltas, _ = stream(data, cuts, [])
    assert "".join(deltas) == data.decode("utf-8", "replace")


def test_an_unfinished_character_is_held_back_and_replaced_at_the_end() -> None:
    deltas, _ = stream("é".encode()[:1], [], [])
    assert deltas == ["", "\ufffd"]


def test_text_that_may_begin_a_stop_string_is_held_back_and_then_sent() -> None:
    deltas, stopped = stream(b"one STone", [6], ["STOP"])
    assert deltas == ["one ", "STone", ""]
    assert not stopped


def test_nothing_is_said_after_a_stop_string() -> None:
    deltas, stopped = stream(b"one END two", [5, 7, 9], ["END"])
    assert "".join(deltas) == "one "
    assert stopped


def test_the_first_space_of_a_sentencepiece_answer_is_dropped_once() -> None:
    text = IncrementalText([b" one", b" two"].__getitem__, strip_leading_space=True)
    assert text.push(0) + text.push(1) == "one two"
