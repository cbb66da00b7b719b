"""The text that stands and the one that a provider writes join without a repetition and without a loss."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from tests.unit.pieces import SIZES, pieces_of, run
from weir.frontier_proxy.continuation import (
    SHORTEST_TAIL,
    SHORTEST_WHOLE,
    Joint,
    Overlap,
    Trim,
)
from weir.frontier_proxy.restart import NotContinuedError, Restart

PROSE = (
    "A weir is a low dam across a river. It raises the water level upstream, and the water flows over its "
    'crest. The old keeper said: "Never open the gates in May!" Nobody did.\n\n'
    "1. It feeds the mill.\n2. It lets boats pass.\n\n水を止める低い堰は、川の水位を上げる。\n"
)
CUTS = st.integers(SHORTEST_WHOLE * 3, len(PROSE) - 1)


def solid(text: str) -> str:
    return "".join(text.split())


def joined(standing: str, new: str, sizes: list[int]) -> str:
    return standing + run(Trim(standing), *pieces_of(new, sizes))


@given(CUTS, SIZES)
def test_an_exact_continuation_passes_as_it_is(cut: int, sizes: list[int]) -> None:
    standing, rest = PROSE[:cut], PROSE[cut:]
    # White space on both sides of the seam may be the same one, written twice.
    assume(not (standing[-1] == " " and rest[0] == " "))
    assert joined(standing, rest, sizes) == PROSE


@given(CUTS, SIZES, st.sampled_from(["", " ", "\n", "\n\n", "...", "… "]))
def test_a_repetition_of_all_that_stands_is_cut(cut: int, sizes: list[int], lead: str) -> None:
    assert joined(PROSE[:cut], lead + PROSE, sizes) == PROSE


@given(st.data(), CUTS, SIZES)
def test_a_repeated_end_is_cut_from_any_word_on(data: st.DataObject, cut: int, sizes: list[int]) -> None:
    words = [at for at in range(1, cut) if PROSE[at - 1].isspace() and not PROSE[at].isspace()]
    words = [at for at in words if len(solid(PROSE[at:cut])) >= SHORTEST_TAIL]
    assume(words)
    assert joined(PROSE[:cut], PROSE[data.draw(st.sampled_from(words)) :], sizes) == PROSE


@given(CUTS, SIZES)
def test_a_repetition_laid_out_differently_is_cut_all_the_same(cut: int, sizes: list[int]) -> None:
    again = " ".join(PROSE[:cut].split()) + PROSE[cut:]
    assert solid(joined(PROSE[:cut], again, sizes)) == solid(PROSE)


@pytest.mark.parametrize(("opening", "closing"), [('"', '"'), ("“", "”"), ("«", "»")])
@given(cut=CUTS, sizes=SIZES)
def test_marks_around_a_repetition_go_and_the_texts_own_stay(
    opening: str, closing: str, cut: int, sizes: list[int]
) -> None:
    text = PROSE.rstrip()
    assert joined(PROSE[:cut], opening + text + closing, sizes).rstrip() == text
    quoting = text[: text.index("Nobody")].rstrip()
    kept = quoting[: max(40, cut % len(quoting))]
    assert joined(kept, opening + quoting + closing, sizes).rstrip() == quoting


@given(
    st.text("ab \n", max_size=60),
    st.text("ab \n", max_size=60),
    SIZES,
)
@example("ab ab ab ab ab ab ab ", "ab ab ab ab ab ab ab ab", [])
def test_nothing_but_a_whole_repetition_or_a_long_end_is_ever_cut(
    standing: str, new: str, sizes: list[int]
) -> None:
    passed = solid(run(Trim(standing), *pieces_of(new, sizes)))
    assert solid(new).endswith(passed)
    lost = solid(new)[: len(solid(new)) - len(passed)]
    assert solid(standing).endswith(lost)
    assert len(lost) in (0, len(solid(standing))) or len(lost) >= SHORTEST_TAIL
    assert not lost or len(lost) >= SHORTEST_WHOLE


@pytest.mark.parametrize(
    ("standing", "new"),
    [
        ("ha", "ha ha"),
        ("| weir | river |\n|---|---|---|---|---|---|", "---|---|---|---|---|---|\n"),
        ("And he sang: row, row, row, row, row, row, row, ", "row, row, row, row, row, row, row your boat"),
        (f"{PROSE} {PROSE}", PROSE),
        ("The gate holds. The gate", " gate holds."),
    ],
)
def test_what_may_well_be_said_again_is_kept(standing: str, new: str) -> None:
    assert run(Trim(standing), new) == new


def test_the_first_words_wait_only_while_they_may_be_a_repetition() -> None:
    trim = Trim("The keeper walked to the old mill and")
    assert trim.feed(" then") == " then"
    assert trim.feed(" The keeper walked to the old mill and") == " The keeper walked to the old mill and"
    trim = Trim("The keeper walked to the old mill and")
    assert [trim.feed(piece) for piece in ("The", " keeper", " sang")] == ["", "", "The keeper sang"]


@given(st.integers(1000, 3000))
def test_text_is_held_back_for_no_more_than_a_bounded_end(words: int) -> None:
    text = " ".join(f"word{number}" for number in range(words))
    assert not Overlap(text).open("word1 word2")
    assert Overlap(text).open("word0 word1")


@pytest.mark.parametrize(
    ("standing", "new", "expected"),
    [
        ("Intro: ", " more", "more"),
        ("Intro:\n", "\nNext", "\nNext"),
        ("def f():\n    ", "    return", "return"),
        ("def f():\n", "    return", "    return"),
        ("Intro", " more", " more"),
        ("Intro ", "  ", " "),
    ],
)
def test_blanks_that_stand_are_not_doubled(standing: str, new: str, expected: str) -> None:
    for sizes in ([], [1] * len(new)):
        assert run(Trim(standing), *pieces_of(new, sizes)) == expected


@pytest.mark.parametrize(
    ("standing", "new", "expected"),
    [
        ("Intro: ", " more", "more"),
        ("Intro: ", "more", "more"),
        ("Intro: ", "\n\nNext", "\n\nNext"),
        ("Intro:\n", "\n\nNext", "\nNext"),
        ("Intro:\n\n", " Next", "Next"),
        ("Intro:\n", "\n    code", "    code"),
        ("Intro", " more", " more"),
        ("Intro ", " ", ""),
    ],
)
def test_white_space_that_a_prefilled_answer_writes_anew_is_cut(
    standing: str, new: str, expected: str
) -> None:
    for sizes in ([], [1] * len(new)):
        assert run(Joint(standing), *pieces_of(new, sizes)) == expected


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | st.text('ab "\\{}:,\n', max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text('a" ', max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)
LAYOUTS = st.sampled_from([{"indent": None}, {"indent": 2}, {"separators": (",", ":")}])


@given(VALUES, LAYOUTS, LAYOUTS, st.data(), SIZES)
def test_json_begun_anew_joins_whatever_its_layout(
    value: object, ours: dict[str, Any], theirs: dict[str, Any], data: st.DataObject, sizes: list[int]
) -> None:
    text = json.dumps(value, **ours)
    standing = text[: data.draw(st.integers(0, len(text) - 1))]
    again = json.dumps(value, **theirs)
    try:
        rest = run(Restart(standing, json=True), *pieces_of(again, sizes))
    except NotContinuedError:
        # White space that ends a number or a word has to be there again.
        assert standing != standing.rstrip()
        assert standing.rstrip()[-1].isalnum() or standing.count('"') % 2
    else:
        assert json.loads(standing + rest) == value


@given(VALUES, VALUES, LAYOUTS, st.data())
def test_another_json_than_the_one_begun_is_refused_or_joins(
    value: object, other: object, layout: dict[str, Any], data: st.DataObject
) -> None:
    text = json.dumps(value)
    standing = text[: data.draw(st.integers(0, len(text)))]
    try:
        rest = run(Restart(standing, json=True), json.dumps(other, **layout))
    except NotContinuedError:
        # Of the same text it may be the white space behind a number alone that differs.
        assert text != json.dumps(other) or standing != standing.rstrip()
    else:
        assert json.loads(standing + rest) == other


@pytest.mark.parametrize("text", ["B weir", "A we", "A  weir"])
def test_an_answer_that_begins_otherwise_is_refused(text: str) -> None:
    with pytest.raises(NotContinuedError):
        run(Restart("A weir", json=False), text)
