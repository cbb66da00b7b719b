"""The acceptance rules: what stands, what replaces it, and what neither may change."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.sampling_oracle import prediction_of, proposal
from tests.table_model import VOCABULARY, TableSession, greedy, logits_after
from weir.engines.base import Prediction, Sampling
from weir.verifier.acceptance import (
    AtLeast,
    DraftToken,
    Greedy,
    Lossless,
    Rule,
    Takeover,
    Threshold,
    judge,
    standing,
)
from weir.verifier.distribution import Distribution, Shape, distribution, generator
from weir.verifier.rounds import Verification

STOP = VOCABULARY - 1
PLAIN = Shape(1.0)
TARGET = np.log(np.array([0.30, 0.22, 0.15, 0.12, 0.09, 0.06, 0.04, 0.02])).astype(np.float32)
PROPOSAL = np.array([0.05, 0.05, 0.40, 0.05, 0.25, 0.05, 0.10, 0.05])


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
@given(seed=st.integers(0, 50), chunks=DRAFTS)
async def test_threshold_above_one_is_lossless_at_temperature_zero(
    seed: int, chunks: list[list[int]]
) -> None:
    certain = Threshold(math.nextafter(1.0, 2.0))
    assert await answer(seed, certain, Sampling(), chunks) == greedy([1, 2, 3], 24, frozenset({STOP}), seed)


@settings(deadline=None, max_examples=50)
@given(
    seed=st.integers(0, 50),
    minimum=st.floats(0, 1),
    temperature=st.sampled_from([0.0, 0.8]),
    chunks=DRAFTS,
)
async def test_threshold_stands_exactly_while_the_probability_suffices_or_the_draft_is_what_would_replace_it(
    seed: int, minimum: float, temperature: float, chunks: list[list[int]]
) -> None:
    verifier, _ = verification(seed, Threshold(minimum), Sampling(temperature=temperature, seed=1))
    await verifier.prefill(text := [1])
    for chunk in chunks:
        round_ = await verifier.round([DraftToken(i) for i in chunk])
        judged = [logprob for logprob in round_.draft_logprobs if logprob > -math.inf]
        for place, logprob in enumerate(judged[: round_.accepted + 1]):
            best = int(np.argmax(logits_after([*text, *chunk[:place]], seed)))
            suffices = math.exp(logprob) >= minimum or (temperature == 0 and chunk[place] == best)
            assert suffices == (place < round_.accepted)
        text += [token.id for token in round_.tokens]
        if verifier.ended:
            break


@given(logits=st.lists(st.floats(-9, 9, width=32), min_size=2, max_size=9), data=st.data())
def test_a_higher_threshold_never_takes_more(logits: list[float], data: st.DataObject) -> None:
    lower, higher = sorted(data.draw(st.tuples(st.floats(0, 1), st.floats(0, 1))))
    temperature = data.draw(st.sampled_from([0.0, 1.0]))
    ids = data.draw(st.lists(st.integers(0, len(logits) - 1), max_size=6))
    row = np.array(logits, np.float32)
    drafts, predictions = [DraftToken(i) for i in ids], [prediction_of(row, i) for i in ids]

    def stood(minimum: float) -> int:
        return standing(judge(Threshold(minimum), Shape(temperature), generator(1)), drafts, predictions)

    assert stood(higher) <= stood(lower)


@given(
    minimum=st.floats(1e-6, 1, exclude_max=True),
    logits=st.lists(st.floats(-9, 9, width=32), min_size=2, max_size=9),
    token=st.integers(0, 1),
)
def test_the_threshold_is_big_little_decoders_rollback(
    minimum: float, logits: list[float], token: int
) -> None:
    prediction = prediction_of(np.array(logits, np.float32), token)
    assert prediction.next_logprob is not None
    distance, bound = -prediction.next_logprob, -math.log(minimum)
    assume(abs(distance - bound) > 1e-9)
    stands = judge(Threshold(minimum), Shape(1.0), generator(1)).accepts(DraftToken(token), prediction)
    assert stands == (distance <= bound)


class Literal(AtLeast):
    """The threshold and nothing else: an arg-max below it is replaced too, by itself."""

    def __init__(self, rule: Threshold) -> None:
        super().__init__(rule, Greedy())
        self.bound = rule.min_probability

    def accepts(self, draft: DraftToken, prediction: Prediction) -> bool:
        return math.exp(prediction.next_logprob or 0.0) >= self.bound


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 50), minimum=st.floats(0, 1), size=st.integers(1, 6))
async def test_letting_the_arg_max_stand_changes_no_text(seed: int, minimum: float, size: int) -> None:
    texts, rounds = [], []
    for judged_by in (AtLeast(Threshold(minimum), Greedy()), Literal(Threshold(minimum))):
        verifier = Verification(TableSession(seed), judged_by, frozenset({STOP}), None)
        await verifier.prefill([1, 2, 3])
        said: list[int] = []
        rounds.append(0)
        while len(said) < 24 and not verifier.ended:
            # A drafter whose drafts follow from the text: another table model.
            drafts = greedy([1, 2, 3, *said], size, frozenset({STOP}), seed=seed + 1)
            said += [token.id for token in (await verifier.round([DraftToken(i) for i in drafts])).tokens]
            rounds[-1] += 1
        texts.append(said[:24])
    assert texts[0] == texts[1]
    assert rounds[0] <= rounds[1]


async def test_a_drafter_that_hands_over_has_agreed_to_nothing() -> None:
    judged_by = judge(Threshold(1e-4, takeover=Takeover.STRETCH), Shape(), generator(1))
    verifier = Verification(TableSession(4), judged_by, frozenset(), None, stretch=True)
    await verifier.prefill([1, 2, 3])
    own = greedy([1, 2, 3], 3, seed=4)
    ranked = [np.argsort(-logits_after([1, 2, 3, *own[:place]], 4)) for place in range(3)]
    hopeless, likely = DraftToken(int(ranked[0][-1])), DraftToken(int(ranked[2][1]))
    assert (await verifier.round([hopeless])).accepted == 0
    assert (await verifier.round([])).accepted == 0
    round_ = await verifier.round([likely])
    assert (round_.accepted, round_.tokens[0].id) == (0, own[2])
    assert math.exp(round_.draft_logprobs[0]) > 1e-4


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
    assert (round_.accepted, round_.own) == (3, ())


async def test_nothing_follows_an_accepted_stop_token() -> None:
    (likely,) = greedy([1], 1, seed=1)
    verifier, _ = verification(1, Lossless(), Sampling(), stop=likely)
    await verifier.prefill([1])
    round_ = await verifier.round([DraftToken(likely), DraftToken(2)])
    assert [token.id for token in round_.tokens] == [likely]
    assert verifier.ended


def rate(draft: DraftToken | None, *, told: bool, shape: Shape = PLAIN) -> float:
    """Return the share of 4000 drafts that stands; without a draft they are drawn from the proposal."""
    judged_by, drafter = judge(Lossless(), shape, generator(1)), np.random.default_rng(2)
    candidates = proposal(PROPOSAL) if told else ()
    stood = 0
    for _ in range(4000):
        drawn = draft or DraftToken(int(drafter.choice(8, p=PROPOSAL)), candidates)
        stood += judged_by.accepts(drawn, prediction_of(TARGET))
    return stood / 4000


def test_a_known_proposal_is_accepted_as_often_as_the_two_distributions_overlap() -> None:
    overlap = float(np.minimum(np.exp(TARGET), PROPOSAL).sum())
    assert rate(None, told=True) == pytest.approx(overlap, abs=0.03)


def test_an_unknown_proposal_is_accepted_as_often_as_both_would_draw_the_same() -> None:
    same = float((np.exp(TARGET) * PROPOSAL).sum())
    assert rate(None, told=False) == pytest.approx(same, abs=0.03)


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_partial_proposal_is_not_taken_for_the_whole(share: float) -> None:
    part = DraftToken(2, proposal(np.array([0.0, 0.0, share])))
    assert rate(part, told=False) == pytest.approx(0.15, abs=0.02)


@pytest.mark.parametrize("shape", [Shape(1.0, top_k=2), Shape(1.0, top_p=0.5)], ids=str)
def test_a_draft_outside_the_truncation_never_stands(shape: Shape) -> None:
    assert rate(DraftToken(2, proposal(PROPOSAL)), told=True, shape=shape) == 0


def test_a_proposal_of_ids_past_the_vocabulary_does_no_harm() -> None:
    q = np.zeros(400)
    q[[2, 399]] = 0.5
    judged_by = judge(Lossless(), Shape(1.0), generator(1))
    replaced = {judged_by.replace(DraftToken(2, proposal(q)), prediction_of(TARGET)) for _ in range(200)}
    assert replaced == {0, 1, 3, 4, 5, 6, 7}


def test_one_row_becomes_a_distribution_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Shape] = []

    def counted(logits: npt.NDArray[np.float32], shape: Shape) -> Distribution:
        made.append(shape)
        return distribution(logits, shape)

    monkeypatch.setattr("weir.verifier.acceptance.distribution", counted)
    judged_by, here = judge(Lossless(), Shape(0.7), generator(1)), prediction_of(TARGET)
    while judged_by.accepts(DraftToken(7), here):
        pass
    judged_by.replace(DraftToken(7), here)
    assert made == [Shape(0.7)]
