"""Where text may be cut: the same places however it streams, between sentences and JSON values only."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.verifier.text_level.boundaries import Boundaries

_PIECES = [
    *[
        "Dr. ",
        "Smith",
        " paid ",
        "3.50",
        "e.g. ",
        "U.S. ",
        "etc.",
        "No",
        "Yes",
        "he",
        "i.e.",
        "a@b.org",
        "v1.2",
    ],
    *[".", "!", "?", "...", "…", '"', "'", ")", "(", "*", "。", "\uff01", "」", "「", "你好", "é"],
    *[
        " ",
        "  ",
        "\n",
        "\n\n",
        "\t",
        "```",
        "```python\n",
        "~~~",
        "- ",
        "1. ",
        "# ",
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
    ],
]
texts = st.one_of(st.text(max_size=20), st.lists(st.sampled_from(_PIECES), max_size=20).map("".join))
short = st.lists(st.sampled_from(_PIECES), max_size=4).map("".join)
values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | short,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(short, inner, max_size=3),
    max_leaves=6,
)
# JSON's own tokens: strings, numbers and words are the ones with an inside.
_WITH_INSIDE = re.compile(r'"(?:[^"\\]|\\.)*"|[-+.\w]+')


def ends_of(text: str, *, json: bool = False) -> list[int]:
    return Boundaries(json=json).feed(text)


def units_of(text: str, *, json: bool = False) -> list[str]:
    cuts = [0, *ends_of(text, json=json), len(text)]
    return [text[begin:end] for begin, end in pairwise(cuts) if begin < end]


@given(texts, st.lists(st.integers(1, 7), min_size=1), st.booleans())
def test_a_text_has_the_same_boundaries_however_it_streams(text: str, sizes: list[int], json: bool) -> None:
    found: list[list[int]] = []
    scanner, at = Boundaries(json=json), 0
    while at < len(text):
        size = sizes[len(found) % len(sizes)]
        found.append(scanner.feed(text[at : at + size]))
        at += size
    assert [end for ends in found for end in ends] == ends_of(text, json=json)


@given(texts, texts)
def test_what_follows_never_moves_a_boundary(text: str, more: str) -> None:
    ends = ends_of(text)
    assert ends_of(text + more)[: len(ends)] == ends


@given(texts)
def test_units_are_never_empty_and_make_up_the_text(text: str) -> None:
    ends = ends_of(text)
    assert ends == sorted(set(ends))
    assert all(0 < end <= len(text) for end in ends)
    assert "".join(units_of(text)) == text


@given(texts)
def test_prose_is_cut_before_or_behind_white_space_or_a_full_width_mark(text: str) -> None:
    for end in ends_of("x" + text):
        before, after = ("x" + text)[end - 1], ("x" + text)[end]
        assert before == "\n" or after.isspace() or before in "。\uff01」'\")]", (before, after)


@given(values, st.sampled_from([None, 2]), st.booleans())
def test_json_is_never_cut_inside_a_string_a_number_or_a_word(
    value: Any, indent: int | None, ascii_only: bool
) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    inside = [range(found.start() + 1, found.end()) for found in _WITH_INSIDE.finditer(text)]
    if text[0] in '{["':
        assert not [end for end in ends_of(text, json=True) if any(end in span for span in inside)]


@given(st.dictionaries(short, values, min_size=1, max_size=3))
def test_a_cut_of_json_leaves_whole_members_behind_it(value: dict[str, Any]) -> None:
    text = json.dumps(value)
    *ends, last = ends_of(text)
    assert last == len(text)
    for end in ends:
        assert text[end - 1] == ","
        closing = "".join("}" if bracket == "{" else "]" for bracket in reversed(open_brackets(text[:end])))
        json.loads(text[: end - 1] + closing)


def open_brackets(text: str) -> list[str]:
    stack: list[str] = []
    for bracket in re.findall(r"[{}\[\]]", re.sub(r'"(?:[^"\\]|\\.)*"', "", text)):
        stack.append(bracket) if bracket in "{[" else stack.pop()
    return stack


@pytest.mark.parametrize(
    "units",
    [
        ["He left.", " She stayed!", " Why?", " Nobody knows..."],
        ["Dr. Smith met J. R. Jones at 5 p.m. in the U.S. embassy.", " Fig. 3 shows it."],
        ["It costs $3.50, see example.com/a.b for more.", " Next."],
        ['"Stop!" he said.', ' "No." She left... and then came back.', " Done."],
        ["(All of it.)", " **Bold.**", " End."],
        ["1. First item.", " More of it.\n", "2. Second\n\n", "- Third\n", "Text."],
        ["# Title\n", "Line one\n", "line two.\n\n", "Paragraph."],
        ["Code:\n", "```python\n", "x = f(1). y\n", "if a: b(). C\n", "```\n", "After.", " End."],
        ["你好吗\uff1f", "我很好。", "「是的。」", "他说。", " Next."],
        [
            '{"name": "Al\\"ice, B.",',
            ' "age": [1,',
            " 2.5,",
            ' {"x": null}],',
            ' "t": true}',
            " Right.",
            " So.",
        ],
        ["[Note] This is one.", " Two."],
        ["[link](http://x.org) is here.", " Two."],
    ],
)
def test_units_are_what_a_reader_takes_for_them(units: list[str]) -> None:
    assert units_of("".join(units)) == units


def test_a_json_string_is_one_value_where_the_constraint_says_json() -> None:
    assert units_of('"One. Two."', json=True) == ['"One. Two."']
    assert units_of('"One." Two.') == ['"One."', " Two."]
