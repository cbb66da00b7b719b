"""Guesses of the verifier's own: they save passes where they are right, and never change a token."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.table_model import VOCABULARY, TableSession, greedy
from weir.engines.base import Pass, Sampling
from weir.verifier.acceptance import Lossless, Threshold, judge
from weir.verifier.distribution import Shape, generator
from weir.verifier.rounds import Verification
from weir.verifier.speculation.acceptance_rate import AnswerRates, ServiceRates
from weir.verifier.speculation.costs import RoundCosts
from weir.verifier.speculation.gain import Costs
from weir.verifier.speculation.guesses import Guesses
from weir.verifier.speculation.knowledge import Knowledge

PROMPT = [1, 2, 3]
FREE = Costs(draft_s=0.01, round_s=0.0, pass_s=0.04, token_s=0.01, width=2)
NARROW = Costs(draft_s=0.01, round_s=0.0, pass_s=0.0, token_s=0.05)
TOKENS = st.integers(0, VOCABULARY - 1)


def _verification(sampling: Sampling, stop: frozenset[int], minimum: float | None) -> Verification:
    rule = Lossless() if minimum is None else Threshold(minimum)
    judged_by = judge(rule, Shape.of(sampling, None, None), generator(sampling.seed))
    return Verification(TableSession(), judged_by, stop, None)


async def _said(
    guesses: list[list[int]], sampling: Sampling, stop: frozenset[int], minimum: float | None
) -> list[int]:
    verifier = _verification(sampling, stop, minimum)
    await verifier.prefill(PROMPT)
    said: list[int] = []
    while len(said) < 24 and not verifier.ended:
        said += [token.id for token in (await verifier.alone(guesses.pop(0) if guesses else [])).tokens]
    return said[:24]


@settings(deadline=None, max_examples=100)
@given(
    guesses=st.lists(st.lists(TOKENS, max_size=5), max_size=16),
    temperature=st.sampled_from([0.0, 0.7]),
    stop=st.frozensets(TOKENS, max_size=2),
    minimum=st.none() | st.floats(0, 1),
)
async def test_the_answer_is_that_without_guesses_whatever_was_guessed(
    guesses: list[list[int]], temperature: float, stop: frozenset[int], minimum: float | None
) -> None:
    sampling = Sampling(temperature=temperature, seed=3)
    alone = await _said([], sampling, stop, minimum)
    assert await _said(guesses, sampling, stop, minimum) == alone


async def test_a_right_guess_saves_its_pass() -> None:
    coming = greedy(PROMPT, 4)
    verifier = _verification(Sampling(temperature=0.0), frozenset(), None)
    await verifier.prefill(PROMPT)
    passed = await verifier.alone([*coming[:2], (coming[2] + 1) % VOCABULARY])
    assert [token.id for token in passed.tokens] == coming[:3]
    assert (passed.accepted, passed.judged, passed.fed) == (0, 0, 4)
    assert not any(token.drafted for token in passed.tokens)


def _guesses(prompt: list[int]) -> Guesses:
    return Guesses(prompt, AnswerRates(ServiceRates()))


def test_what_an_engine_computes_in_any_case_is_filled() -> None:
    assert _guesses([7, 8, 9, 7]).next(FREE, 10) == (8,)


def test_nothing_is_guessed_where_nothing_was_seen_before() -> None:
    assert _guesses([7, 8, 9]).next(FREE, 10) == ()


def test_guesses_grow_longer_while_they_are_right() -> None:
    guesses = _guesses([1, 2, 3, 4, 5, 6] * 4)
    for _ in range(8):
        guesses.said([1, 2, 3, 4, 5, 6])
    assert len(guesses.next(FREE, 10)) == 10
    assert guesses.gain > 1.6


def test_guesses_that_cost_time_end_where_they_are_wrong() -> None:
    rng = random.Random(1)
    guesses = _guesses([rng.randrange(6) for _ in range(50)])
    for _ in range(200):
        guesses.said([rng.randrange(6)])
    assert guesses.next(NARROW, 10) == ()
    assert len(guesses.next(FREE, 10)) == 1


def test_each_company_has_its_own_costs_and_begins_with_the_nearest_ones() -> None:
    knowledge = Knowledge("off")
    for tokens in [2, 4, 8] * 30:
        knowledge.sequential(1).passes.observe(Pass(0.05 + 0.004 * tokens, tokens, 1), tokens, 0.1)
    begun = knowledge.sequential(8)
    assert begun.passes.line() == pytest.approx(knowledge.sequential(1).passes.line(), rel=0.2)
    assert begun.of("model", 8).token_s == pytest.approx(8 * begun.passes.line()[1])
    for tokens in [16, 32, 64] * 30:
        begun.passes.observe(Pass(0.02 + 0.006 * tokens, tokens, 8), tokens // 8, 0.2)
    assert begun.passes.line()[1] == pytest.approx(0.006, rel=0.1)
    assert knowledge.sequential(1).passes.line()[1] == pytest.approx(0.004, rel=0.1)
    assert isinstance(knowledge.sequential(15), RoundCosts)
    assert knowledge.sequential(15) is begun
