"""What an answer's text passes through, cut into any pieces."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.pieces import SIZES, pieces_of, run
from weir.common.errors import WeirError
from weir.frontier_proxy.restart import Restart
from weir.frontier_proxy.stages import Pipeline, Restore, Stop, Unwrap

LETTERS = st.text("AB[]_1 ", max_size=30)


@given(LETTERS, st.lists(st.text("AB ", min_size=1, max_size=3), min_size=1, max_size=3), SIZES)
def test_stop_ends_before_the_first_stop_string(text: str, stops: list[str], sizes: list[int]) -> None:
    ends = [text.find(stop) for stop in stops if stop in text]
    expected = text[: min(ends)] if ends else text
    stop = Stop(stops)
    assert run(stop, *pieces_of(text, sizes)) == expected
    assert stop.hit is bool(ends)


def test_a_stop_string_inside_of_one_that_began_earlier_does_not_go_before_it() -> None:
    assert run(Stop([" ", "A A"]), "A ", "A") == ""
    assert run(Stop([" ", "A A"]), "A ", "B") == "A"
    assert run(Stop([" ", "A A"]), "A ") == "A"


@given(LETTERS, SIZES)
def test_restore_puts_originals_back_however_the_text_is_cut(text: str, sizes: list[int]) -> None:
    originals = {"[A_1]": "Ada", "[B_1]": "Bob [A_1]"}
    expected = text.replace("[B_1]", "\0").replace("[A_1]", "Ada").replace("\0", "Bob [A_1]")
    assert run(Restore(originals), *pieces_of(text, sizes)) == expected


def test_text_is_held_no_longer_than_needed() -> None:
    assert Restore({"[EMAIL_1]": "x"}).feed("to [now] and [EM") == "to [now] and "
    assert Stop(["END"]).feed("the EN") == "the "


def test_unwrap_takes_the_choice_out_of_its_object() -> None:
    assert run(Unwrap(), '{"choi', 'ce": "j\\u00e4"}') == "jä"


@pytest.mark.parametrize("text", ["", "yes", "[]", '{"choice": 1}'])
def test_unwrap_refuses_what_holds_no_choice(text: str) -> None:
    with pytest.raises(WeirError, match="PROVIDER_FAILED"):
        run(Unwrap(), text)


def test_stages_work_on_each_others_output() -> None:
    pipeline = Pipeline([Restore({"[W_1]": "weir END"}), Restart("A w", json=False), Stop(["END"])])
    assert run(pipeline, "A [W", "_1] and more") == "eir "
