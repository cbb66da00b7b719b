"""When the rest of an answer is better left to the frontier."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.verifier.escalation import AcceptanceWindow, CertaintyWindow, Escalation

# Rounds as (drafted, accepted, tokens that the verifier added unasked).
ROUND = st.integers(0, 8).flatmap(
    lambda drafted: st.tuples(st.just(drafted), st.integers(0, drafted), st.integers(0, 2))
)


def outcomes_of(rounds: list[tuple[int, int, int]]) -> list[bool | None]:
    outcomes: list[bool | None] = []
    for drafted, accepted, unasked in rounds:
        rejected = [False] if accepted < drafted else []
        outcomes += [True] * accepted + rejected + [None] * unasked
    return outcomes


@given(st.lists(ROUND, max_size=60), st.integers(1, 40))
def test_the_share_is_of_the_drafts_judged_in_the_last_tokens(
    rounds: list[tuple[int, int, int]], size: int
) -> None:
    window = AcceptanceWindow(size)
    for drafted, accepted, unasked in rounds:
        window.add(drafted, accepted, accepted + (accepted < drafted) + unasked)
    outcomes = outcomes_of(rounds)
    judged = [outcome for outcome in outcomes[-size:] if outcome is not None]
    known = len(outcomes) >= size and judged
    assert window.share == (sum(judged) / len(judged) if known else None)
    assert not window.below(0.0)
    if known and len(judged) >= size / 4:
        assert window.below(0.5) == (sum(judged) / len(judged) < 0.5)
    elif window.below(0.5):
        assert sum(judged) / len(judged) < 0.5


@pytest.mark.parametrize("length", [1, 4, 16])
def test_the_share_does_not_depend_on_how_much_was_drafted_for_nothing(length: int) -> None:
    window = AcceptanceWindow(8)
    for _ in range(4):
        window.add(length, 0, 1)
        window.add(1, 1, 1)
    assert window.share == 0.5


def test_a_pause_in_drafting_forgets_the_bad_stretch_before_it() -> None:
    escalation = Escalation(8, 0.5, 0.0)
    for _ in range(7):
        escalation.add(4, 0, [0.9])
    assert escalation.why() is None, "the window is not full yet"
    for _ in range(6):
        escalation.add(0, 0, [0.9])
    assert escalation.why() is not None, "two judged tokens of eight are enough"
    escalation.add(0, 0, [0.9])
    assert escalation.why() is None, "one is not"
    for _ in range(100):
        escalation.add(0, 0, [0.9])
        assert escalation.why() is None
    escalation.add(1, 1, [0.9])
    assert escalation.why() is None


@pytest.mark.parametrize(("probes", "hopeless"), [(1, False), (3, False), (7, True), (12, True)])
def test_rejected_probes_are_a_reason_once_they_are_enough(probes: int, hopeless: bool) -> None:
    window = AcceptanceWindow(64)
    for _ in range(probes):
        window.add(1, 0, 1)
        window.add(0, 0, 4)
    assert not window.below(0.3), "the window is not full yet"
    window.add(0, 0, 64 - 5 * probes)
    assert window.below(0.3) is hopeless
    window.add(0, 0, 64)
    assert window.share is None


@given(st.lists(st.floats(0, 1), max_size=60), st.integers(1, 20))
def test_certainty_is_the_mean_of_the_last_tokens(probabilities: list[float], size: int) -> None:
    window = CertaintyWindow(size)
    for probability in probabilities:
        window.add([probability])
    if len(probabilities) < size:
        assert window.mean is None
    else:
        assert window.mean == pytest.approx(sum(probabilities[-size:]) / size)


def test_lasting_doubt_of_the_verifier_is_a_reason_also_without_drafts() -> None:
    escalation = Escalation(4, 0.0, 0.5)
    escalation.add(0, 0, [0.9, 0.1, 0.1])
    assert escalation.why() is None
    escalation.add(0, 0, [0.1])
    why = escalation.why()
    assert why
    assert why.code == "unsure"
    assert "0.30" in why.detail
    assert "0.50" in why.detail
    escalation.add(0, 0, [0.9, 0.9, 0.9])
    assert escalation.why() is None


def test_low_acceptance_is_told_with_its_figures() -> None:
    escalation = Escalation(4, 0.5, 0.9)
    for accepted in (1, 0, 0, 0):
        escalation.add(1, accepted, [0.2])
    why = escalation.why()
    assert why
    assert why.code == "low_acceptance"
    assert why.detail.startswith("25% ")
    assert "50%" in why.detail


@given(st.lists(ROUND, max_size=30), st.integers(1, 20))
def test_a_bound_of_zero_is_never_crossed(rounds: list[tuple[int, int, int]], size: int) -> None:
    escalation = Escalation(size, 0.0, 0.0)
    assert not escalation.possible
    for drafted, accepted, unasked in rounds:
        escalation.add(drafted, accepted, [0.0] * (accepted + (accepted < drafted) + unasked))
        assert escalation.why() is None
