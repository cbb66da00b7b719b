"""What was said against what a drafter writes: the same text agrees however divided, another does not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.verifier.text_level.agreement import Agreement

texts = st.text(alphabet="ab é\n你", max_size=12)


def begun(said: str) -> tuple[Agreement, str]:
    agreement = Agreement()
    agreement.say(said.encode())
    return agreement, agreement.restart(said)


@given(texts, texts, st.data())
def test_who_writes_first_does_not_matter_while_both_write_the_same(
    said: str, text: str, data: st.DataObject
) -> None:
    agreement, given_out = begun(said)
    # A drafter that was given the text without the white space at its end writes that too.
    written, spoken = (said + text)[len(given_out) :], text.encode()
    drafter = data.draw(st.integers(0, len(written)))
    verifier = data.draw(st.integers(0, len(spoken)))
    agreement.propose(written[:drafter])
    agreement.say(spoken[:verifier])
    agreement.propose(written[drafter:])
    assert agreement.agrees
    assert bytes(agreement.pending) == spoken[verifier:]
    assert not agreement.ahead
    agreement.say(spoken[verifier:])
    assert agreement.agrees
    assert (agreement.text, bytes(agreement.pending)) == (said + text, b"")


@given(texts, st.booleans())
def test_another_text_is_noticed_whoever_writes_first(text: str, drafter_first: bool) -> None:
    agreement, _ = begun("x")
    if drafter_first:
        agreement.propose(text + "c")
        agreement.say((text + "d").encode())
    else:
        agreement.say((text + "d").encode())
        agreement.propose(text + "c")
    assert not agreement.agrees


@pytest.mark.parametrize("written", ["\n\nThen", "Then", " Then", "\nThen"])
def test_white_space_that_was_trimmed_may_come_back_in_any_form(written: str) -> None:
    agreement, given_out = begun("Done.\n\n")
    assert given_out == "Done."
    for character in written:
        agreement.propose(character)
    assert agreement.agrees
    assert bytes(agreement.pending) == b"Then"


def test_there_is_no_text_while_it_ends_within_a_character() -> None:
    agreement, character = Agreement(), "é".encode()
    agreement.say(character[:1])
    assert agreement.text is None
    agreement.say(character[1:])
    assert agreement.text == "é"


def test_a_space_that_only_the_first_token_spells_is_none_of_the_text() -> None:
    agreement = Agreement(spelled_space=True)
    assert agreement.say(b" One") == b"One"
    assert agreement.say(b" two") == b" two"
    assert agreement.text == "One two"


def test_beginning_again_forgets_what_was_proposed() -> None:
    agreement, _ = begun("One")
    agreement.propose(" two")
    agreement.say(b" three")
    assert not agreement.agrees
    assert agreement.restart("One three") == "One three"
    agreement.propose(" four")
    assert agreement.agrees
    assert bytes(agreement.pending) == b" four"
