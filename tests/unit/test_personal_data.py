"""Personal data: which kinds there are, national numbers, and that huge or hostile texts take little."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weir.common import personal_data

NATIONAL = {
    "United States": "536-90-4399",
    "Spain, citizen": "12345678Z",
    "Spain, foreigner": "X1234567L",
    "Italy": "RSSMRA85T10A562S",
    "France": "2 95 10 99 126 111 93",
    "Brazil": "529.982.247-25",
    "Switzerland": "756.9217.0769.85",
    "Sweden": "811218-9876",
    "China": "11010519491231002X",
    "India": "2341 2341 2346",
    "Poland": "44051401359",
    "Germany": "36574261809",
    "United Kingdom": "AB 12 34 56 C",
}
# The same shapes with a wrong check digit, or what else has them.
HARMLESS = [
    "12345678A",
    "529.982.247-26",
    "756.9217.0769.86",
    "11010519491231002Y",
    "44051401358",
    "1.529.982.247-25",
    "12345678901",
    "GB 12 34 56 C",
]
PIECES = st.one_of(
    st.sampled_from([*NATIONAL.values(), *HARMLESS, "ada@example.org", "203.0.113.7", "+44 20 7946 0958"]),
    st.text(max_size=20),
)


@pytest.mark.parametrize("country", NATIONAL)
def test_national_number_is_found_whole(country: str) -> None:
    number = NATIONAL[country]
    sentence = f"Please note {number}, thanks."
    start = sentence.index(number)
    assert personal_data.find(sentence) == [(start, start + len(number), "ID")]


@pytest.mark.parametrize("text", HARMLESS)
def test_what_only_looks_like_one_is_none(text: str) -> None:
    assert "ID" not in personal_data.kinds(f"Please note {text}, thanks.")


@settings(max_examples=100, deadline=None)
@given(st.lists(PIECES, max_size=6), st.booleans())
def test_kinds_are_those_of_the_findings_and_of_a_long_text_hold_them(pieces: list[str], long: bool) -> None:
    text = " ".join([*pieces, "and so on, " * (300 if long else 0)])
    found = {finding.kind for finding in personal_data.find(text)}
    kinds = personal_data.kinds(text)
    assert kinds >= found if long else kinds == found


@pytest.mark.parametrize("at", [0, 32_760, 150_000, 250_000])
def test_nothing_is_missed_in_a_huge_text_wherever_it_stands(at: int) -> None:
    filler = "All of it is harmless prose. " * 10_000
    text = f"{filler[:at]} ada@example.org {filler[at:]}"
    assert personal_data.kinds(text) == {"EMAIL"}
    assert not personal_data.is_quick(text)


@pytest.mark.parametrize("hostile", ["DE12 ", "4 ", "12345678901 ", "99 999 9999 999, ", "1.1.1.", "4111 "])
@pytest.mark.timeout(20)
def test_hostile_text_of_a_quarter_megabyte_is_judged_on_the_safe_side(hostile: str) -> None:
    """What thousands of candidates hide cannot be excluded in bounded time, so it counts as present."""
    assert personal_data.kinds(hostile * (250_000 // len(hostile)))


def test_quick_text_is_short_and_without_long_numbers() -> None:
    assert personal_data.is_quick("What is the capital of France? It has 2 million people.")
    assert not personal_data.is_quick("Call 415 555 2671.")
