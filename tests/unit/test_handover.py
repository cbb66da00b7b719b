"""Where an answer is handed over, and that no text is lost, doubled or glued together there."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.unit.pieces import SIZES, pieces_of, run
from weir.engines.base import TokenInfo
from weir.frontier_proxy.continuation import Joint, Trim
from weir.verifier.events import Delta, Source
from weir.verifier.handover import find_seam, joined

TEXTS = st.text("ab \n.E", max_size=12)


def delta(text: str, source: Source = Source.VERIFIER, tokens: int = 1) -> Delta:
    return Delta(text, tuple(TokenInfo(index) for index in range(tokens)), source)


@given(
    said=TEXTS,
    texts=st.lists(TEXTS, max_size=3),
    stop=st.lists(st.text("ab E", min_size=1, max_size=4), max_size=2),
    settled=st.booleans(),
    patient=st.booleans(),
    rest=TEXTS,
)
def test_no_text_is_lost_and_no_stop_string_lies_across_the_seam(
    said: str, texts: list[str], stop: list[str], settled: bool, patient: bool, rest: str
) -> None:
    deltas = [delta(text) for text in texts]
    seam = find_seam(said, deltas, stop, settled=settled, patient=patient)
    if seam is None:
        return
    assert [*seam.kept, *seam.withheld] == deltas
    kept = said + "".join(part.text for part in seam.kept)
    withheld = "".join(part.text for part in seam.withheld)
    assert withheld.startswith(seam.gap)
    assert not seam.gap or seam.gap.isspace()
    assert settled or seam.withheld
    assert not patient or seam.gap or not kept or kept[-1].isspace()
    for before in (kept, kept + seam.gap):
        for needle in stop:
            starts = [at for at in range(len(before)) if (before + rest).startswith(needle, at)]
            assert all(at + len(needle) <= len(before) for at in starts)


def test_the_word_that_the_verifier_would_have_said_next_is_withheld() -> None:
    deltas = [delta(" is", Source.DRAFT), delta(" Paris")]
    seam = find_seam("The capital", deltas, (), settled=True, patient=True)
    assert seam
    assert (seam.kept, seam.withheld, seam.gap) == ((deltas[0],), (deltas[1],), " ")


@pytest.mark.parametrize(
    ("said", "last", "settled"),
    [("The cap", "ital", True), ("Sum: ", "", False), ("", " So", True), ("See E", " N", True)],
)
def test_within_a_word_or_with_text_held_back_it_waits(said: str, last: str, settled: bool) -> None:
    assert find_seam(said, [delta(last)], ("E N", "E  D"), settled=settled, patient=True) is None


def test_after_long_waiting_the_end_of_any_character_does() -> None:
    seam = find_seam("水を止", [delta("め")], (), settled=True, patient=False)
    assert seam
    assert (len(seam.kept), seam.gap) == (1, "")
    assert find_seam("水を止", [delta("")], (), settled=False, patient=False) is None


@pytest.mark.parametrize(
    ("gap", "text", "expected"),
    [
        (" ", "Paris", " Paris"),
        (" ", " Paris", " Paris"),
        (" ", "\nParis", "\nParis"),
        (" ", ", of course", ", of course"),
        (" ", "(a city)", " (a city)"),
        ("\n", "- Paris", "\n- Paris"),
        ("\n", ": Paris", "\n: Paris"),
        ("", "Paris", "Paris"),
    ],
)
def test_words_are_neither_glued_together_nor_doubly_spaced(gap: str, text: str, expected: str) -> None:
    assert joined(gap, text) == expected


PROSE = (
    'The old keeper said: "Never open the gates in May!" Nobody did, and the river rose.\n\n'
    "1. It feeds the mill.\n2. It lets boats pass.\n    It keeps the ford dry.\n"
)
WORDS = [at for at in range(24, len(PROSE)) if PROSE[at].isspace() and not PROSE[at - 1].isspace()]


@pytest.mark.parametrize(
    "form",
    [
        lambda kept, rest: rest,
        lambda kept, rest: rest.lstrip(),
        lambda kept, rest: kept + rest,
        lambda kept, rest: "\n" + kept + rest,
        lambda kept, rest: kept[kept.index(" ", len(kept) - 45) + 1 :] + rest if len(kept) > 60 else rest,
        lambda kept, rest: f'"{kept}{rest}"',
    ],
    ids=["exact", "stripped", "all again", "all below", "end again", "in quotes"],
)
@given(cut=st.sampled_from(WORDS), sizes=SIZES)
def test_verifier_and_proxy_together_leave_the_text_unbroken(
    form: Callable[[str, str], str], cut: int, sizes: list[int]
) -> None:
    text = PROSE.rstrip()
    words = PROSE[cut:]
    gap = words[: len(words) - len(words.lstrip())]
    seam = find_seam(text[:cut], [delta(words[: len(gap) + 1])], (), settled=True, patient=True)
    assume(seam is not None and cut < len(text))
    assert seam
    assert seam.gap == gap
    said = run(Trim(text[:cut]), *pieces_of(form(text[:cut], text[cut:]), sizes))
    assert text[:cut] + joined(gap, said) == text


@given(cut=st.sampled_from(WORDS), sizes=SIZES)
def test_a_prefilled_provider_and_the_verifier_leave_the_text_unbroken(cut: int, sizes: list[int]) -> None:
    end = cut + len(PROSE[cut:]) - len(PROSE[cut:].lstrip())
    for kept in (PROSE[:cut], PROSE[:end]):
        rest = run(Joint(kept), *pieces_of(PROSE[len(kept.rstrip()) :], sizes))
        assert kept + rest == PROSE
