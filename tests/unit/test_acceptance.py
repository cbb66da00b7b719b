"""The acceptance rules: exact distributions, and losslessness for any drafts."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.table_model import VOCABULARY, TableSession, greedy
from weir.engines.base import Candidate, Prediction, Sampling
from weir.verifier.acceptance import DraftToken, Lossless, Rule, Threshold, judge
from weir.verifier.distribution import Probabilities, Shape, draw, generator, probabilities
from weir.verifier.rounds import Verification

STOP = VOCABULARY - 1
Counts = npt.NDArray[np.int64]


def verification(
    seed: int, rule: Rule, sampling: Sampling, stop: int = STOP
) -> tuple[Verification, TableSession]:
    session = TableSession(seed)
    shape = Shape.of(sampling, None, None)
    judged_by = judge(rule, shape, generator(sampling.seed))
    return Verification(session, judged_by, frozenset({stop}), None), session


async def answer(
    seed: int, rule: Rule, sampling: Sampling, chunks: Sequence[Sequence[int]], length: int = 24
) -> list[int]:
    """Generate with the given drafts, round by round; the verifier goes on alone after them."""
    verifier, _ = verification(seed, rule, sampling)
    await verifier.prefill([1, 2, 3])
    said: list[int] = []
    waiting = [list(chunk) for chunk in chunks]
    while len(said) < length and not verifier.ended:
        chunk = waiting.pop(0) if waiting else []
        said += [token.id for token in (await verifier.round([DraftToken(i) for i in chunk])).tokens]
    return said[:length]


DRAFTS = st.lists(st.lists(st.integers(0, VOCABULARY - 1), max_size=6), max_size=20)


@settings(deadline=None, max_examples=150)
@given(seed=st.integers(0, 50), chunks=DRAFTS)
async def test_greedy_lossless_equals_the_model_alone_for_any_drafts(
    seed: int, chunks: list[list[int]]
) -> None:
    alone = greedy([1, 2, 3], 24, frozenset({STOP}), seed)
    assert await answer(seed, Lossless(), Sampling(), []) == alone
    assert await answer(seed, Lossless(), Sampling(), chunks) == alone


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 50), chunks=DRAFTS)
async def test_threshold_of_zero_takes_every_draft(seed: int, chunks: list[list[int]]) -> None:
    verifier, _ = verification(seed, Threshold(0.0), Sampling())
    await verifier.prefill([1])
    for chunk in chunks:
        round_ = await verifier.round([DraftToken(i) for i in chunk])
        expected = chunk.index(STOP) + 1 if STOP in chunk else len(chunk)
        assert round_.accepted == expected
        if verifier.ended:
            break


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 50), minimum=st.floats(0, 1), chunks=DRAFTS)
async def test_threshold_stands_exactly_while_the_probability_suffices(
    seed: int, minimum: float, chunks: list[list[int]]
) -> None:
    verifier, _ = verification(seed, Threshold(minimum), Sampling())
    await verifier.prefill([1])
    for chunk in chunks:
        round_ = await verifier.round([DraftToken(i) for i in chunk])
        judged = [math.exp(value) for value in round_.draft_logprobs]
        assert all(p >= minimum for p in judged[: round_.accepted])
        if round_.accepted < len(chunk) and not verifier.ended:
            assert judged[round_.accepted] < minimum
        if verifier.ended:
            break


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 50), chunks=DRAFTS, bonus=st.booleans())
async def test_session_holds_what_was_said_but_for_its_last_token(
    seed: int, chunks: list[list[int]], bonus: bool
) -> None:
    verifier, session = verification(seed, Lossless(), Sampling())
    await verifier.prefill([1, 2])
    said = 0
    for chunk in chunks:
        round_ = await verifier.round([DraftToken(i) for i in chunk], bonus=bonus)
        said += len(round_.tokens)
        assert session.length == 2 + said - 1
        if verifier.ended:
            break


async def test_a_round_feeds_each_token_once() -> None:
    verifier, session = verification(3, Lossless(), Sampling())
    await verifier.prefill([1, 2])
    await verifier.round([DraftToken(1), DraftToken(2), DraftToken(3)])
    assert session.fed == len([1, 2]) + 3


async def test_a_chunk_that_stands_whole_without_bonus_has_no_own_token() -> None:
    alone = greedy([1, 2, 3], 3, seed=5)
    verifier, _ = verification(5, Lossless(), Sampling())
    await verifier.prefill([1, 2, 3])
    round_ = await verifier.round([DraftToken(i) for i in alone], bonus=False)
    assert (round_.accepted, round_.own) == (3, None)


async def test_nothing_follows_an_accepted_stop_token() -> None:
    (likely,) = greedy([1], 1, seed=1)
    verifier, _ = verification(1, Lossless(), Sampling(), stop=likely)
    await verifier.prefill([1])
    round_ = await verifier.round([DraftToken(likely), DraftToken(2)])
    assert [token.id for token in round_.tokens] == [likely]
    assert verifier.ended


def chi_square(counts: Counts, expected: Probabilities) -> float:
    """Return the statistic over the cells that may occur; a count where p is 0 makes it infinite."""
    if counts[expected == 0].any():
        return math.inf
    kept = expected > 0
    total = counts.sum()
    return float(((counts[kept] - total * expected[kept]) ** 2 / (total * expected[kept])).sum())


# The 99.9 % quantile of chi-square with 7 degrees of freedom; with a fixed seed the outcome never varies.
CRITICAL = 24.32
DRAWS = 20_000
TARGET = np.log(np.array([0.30, 0.22, 0.15, 0.12, 0.09, 0.06, 0.04, 0.02]))
SHAPES = [Shape(1.0), Shape(0.7), Shape(1.3, top_k=4), Shape(0.9, top_p=0.8), Shape(1.0, 5, 0.7)]
PROPOSAL = np.array([0.05, 0.05, 0.40, 0.05, 0.25, 0.05, 0.10, 0.05])


def outputs(shape: Shape, *, tell_proposal: bool) -> Counts:
    """Draw x ~ q, judge it, and count what comes out at that position."""
    judged_by = judge(Lossless(), shape, generator(1))
    drafter = np.random.default_rng(1)
    prediction = Prediction((Candidate(0, -1.0),), None, TARGET.astype(np.float32))
    told = tuple(Candidate(i, math.log(q)) for i, q in enumerate(PROPOSAL)) if tell_proposal else ()
    counts = np.zeros(len(PROPOSAL), np.int64)
    for _ in range(DRAWS):
        draft = DraftToken(draw(PROPOSAL, drafter), told)
        out = draft.id if judged_by.accepts(draft, prediction) else judged_by.replace(draft, prediction)
        counts[out] += 1
    return counts


@pytest.mark.parametrize("tell_proposal", [True, False], ids=["q known", "draft as a point"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_sampled_output_follows_the_verifiers_distribution(shape: Shape, tell_proposal: bool) -> None:
    expected = probabilities(TARGET.astype(np.float32), shape)
    assert chi_square(outputs(shape, tell_proposal=tell_proposal), expected) < CRITICAL


def test_a_known_proposal_is_accepted_more_often_than_a_point() -> None:
    prediction = Prediction((Candidate(0, -1.0),), None, TARGET.astype(np.float32))
    told = tuple(Candidate(i, math.log(q)) for i, q in enumerate(PROPOSAL))

    def accepted(proposal: tuple[Candidate, ...]) -> int:
        judged_by, drafter = judge(Lossless(), Shape(1.0), generator(1)), np.random.default_rng(2)
        drafts = [DraftToken(draw(PROPOSAL, drafter), proposal) for _ in range(2000)]
        return sum(judged_by.accepts(draft, prediction) for draft in drafts)

    assert accepted(told) > accepted(()) * 1.5


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_partial_proposal_is_not_taken_for_the_whole(share: float) -> None:
    part = DraftToken(2, (Candidate(2, math.log(share)),))
    prediction = Prediction((Candidate(0, -1.0),), None, TARGET.astype(np.float32))
    judged_by = judge(Lossless(), Shape(1.0), generator(3))
    rate = sum(judged_by.accepts(part, prediction) for _ in range(4000)) / 4000
    assert rate == pytest.approx(0.15, abs=0.02)


@given(
    logits=st.lists(st.floats(-20, 20, width=32), min_size=3, max_size=30),
    temperature=st.floats(0.05, 2),
    top_k=st.none() | st.integers(1, 40),
    top_p=st.none() | st.floats(0.01, 1),
)
def test_truncation_keeps_the_most_likely_and_sums_to_one(
    logits: list[float], temperature: float, top_k: int | None, top_p: float | None
) -> None:
    p = probabilities(np.array(logits, np.float32), Shape(temperature, top_k, top_p))
    assert p.sum() == pytest.approx(1.0)
    # Logits that differ by less than a float can tell are equally likely, and either may be kept.
    assert p[np.array(logits) >= max(logits) - 1e-3].sum() > 0
    assert np.count_nonzero(p) <= (top_k or len(logits))
    assert min(np.array(logits)[p > 0]) >= max(np.array(logits)[p == 0], default=-math.inf) - 1e-3


def test_sampling_repeats_with_a_seed() -> None:
    first, second = generator(11), generator(11)
    uniform = np.full(8, 1 / 8)
    assert [draw(uniform, first) for _ in range(20)] == [draw(uniform, second) for _ in range(20)]
