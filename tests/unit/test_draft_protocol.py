"""Worker and verifier over their own protocol: the answer is the verifier's, whatever the rounds are like."""

from __future__ import annotations

import asyncio
import functools
import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.drafting_pair import PROMPT, Said, Script, WaveringSession, answer
from tests.table_model import TableSession, greedy, logits_after
from weir.engines.base import Sampling
from weir.verifier.acceptance import DraftToken, Takeover, Threshold, judge
from weir.verifier.distribution import Shape, generator
from weir.verifier.rounds import Verification
from weir.verifier.speculation.planner import Plan

PLANS = st.lists(
    st.builds(Plan, tokens=st.integers(0, 5), chunks_ahead=st.integers(1, 3), bonus=st.booleans()),
    min_size=1,
    max_size=6,
)
TURNS = st.lists(st.integers(0, 9), min_size=1, max_size=6)


def _run(
    plans: list[Plan],
    turns: list[int],
    period: int = 0,
    max_tokens: int = 40,
    method: str = "model",
    **more: object,
) -> Said:
    # The first plan has a draft, or no stream is opened.
    script = Script(itertools.chain([Plan(2, plans[0].chunks_ahead)], itertools.cycle(plans)))
    answered = answer(
        script,
        itertools.cycle(turns),
        drafter=lambda: WaveringSession(period),
        max_tokens=max_tokens,
        method=method,
        **more,  # type: ignore[arg-type]
    )

    async def bounded() -> Said:
        async with asyncio.timeout(20):
            return await answered

    return asyncio.run(bounded())


@settings(max_examples=80, deadline=None)
@given(PLANS, TURNS, st.integers(0, 5), st.integers(1, 40), st.sampled_from(["model", "lookup", "auto"]))
def test_a_greedy_answer_is_the_verifiers_own(
    plans: list[Plan], turns: list[int], period: int, max_tokens: int, method: str
) -> None:
    said = _run(plans, turns, period, max_tokens, method)
    assert said.ids == greedy(PROMPT, max_tokens)


@settings(max_examples=30, deadline=None)
@given(PLANS, TURNS, st.integers(0, 5), st.sets(st.integers(0, 11), min_size=1, max_size=4))
def test_an_answer_ends_where_the_verifier_ends_it(
    plans: list[Plan], turns: list[int], period: int, stop: set[int]
) -> None:
    said = _run(plans, turns, period, stop_ids=frozenset(stop))
    alone = greedy(PROMPT, 40, frozenset(stop))
    assert said.ids == [token for token in alone if token not in stop]


@settings(max_examples=30, deadline=None)
@given(PLANS, TURNS, st.integers(0, 5))
def test_the_verifier_feeds_each_token_of_the_answer_once(
    plans: list[Plan], turns: list[int], period: int
) -> None:
    said = _run(plans, turns, period)
    rejected = sum(outcome.fed - outcome.produced for outcome in said.outcomes)
    assert said.target.fed == len(PROMPT) - 1 + sum(outcome.produced for outcome in said.outcomes) + rejected
    assert said.target.ids == [*PROMPT, *said.ids][: len(said.target.ids)]


@settings(max_examples=30, deadline=None)
@given(PLANS, TURNS)
def test_a_drafter_that_is_always_right_is_never_rejected(plans: list[Plan], turns: list[int]) -> None:
    said = _run(plans, turns)
    assert all(outcome.accepted == outcome.drafted for outcome in said.outcomes)
    (session,) = said.drafters
    assert session.fed <= len(PROMPT) + len(said.ids) + 3 * 6


@settings(max_examples=20, deadline=None)
@given(PLANS, TURNS, st.integers(0, 5))
def test_drafts_come_to_an_end_with_the_answer(plans: list[Plan], turns: list[int], period: int) -> None:
    assert all(session.closed for session in _run(plans, turns, period).drafters)


@pytest.mark.parametrize("ahead", [1, 2, 3])
def test_overlapped_rounds_go_on_drafting_where_all_stood(ahead: int) -> None:
    said = _run([Plan(4, ahead)], [0])
    assert said.finished.rounds <= 40 / 4 + 2
    (session,) = said.drafters
    assert session.fed <= len(PROMPT) + 40


RUNS = 300


@functools.cache
def _sampled_alone() -> Counter[tuple[int, ...]]:
    seeds = range(10_000, 10_000 + RUNS)
    return Counter(
        tuple(_run([Plan(0)], [1], 2, 4, sampling=Sampling(temperature=1.0, seed=seed)).ids[1:3])
        for seed in seeds
    )


@pytest.mark.parametrize("ahead", [1, 2])
def test_sampled_answers_follow_the_verifiers_distribution(ahead: int) -> None:
    plans, alone = [Plan(3, ahead, bonus=ahead == 1)], _sampled_alone()
    drafted = Counter(
        tuple(_run(plans, [1], 2, 4, sampling=Sampling(temperature=1.0, seed=seed)).ids[1:3])
        for seed in range(RUNS)
    )
    cells = [pair for pair, count in (drafted + alone).items() if count >= 10]
    distance = sum((drafted[pair] - alone[pair]) ** 2 / (drafted[pair] + alone[pair]) for pair in cells)
    # Chi-square of so many cells: mean n, variance 2 n.
    assert distance < len(cells) + 4 * (2 * len(cells)) ** 0.5


async def _after_a_rejection(rule: Threshold, drafts: list[int]) -> list[tuple[int, int]]:
    """Reject a first draft, then propose ``drafts``; return how many stood, and tokens, of each round."""
    session = TableSession()
    verification = Verification(
        session,
        judge(rule, Shape(), generator(None)),
        frozenset(),
        None,
        stretch=rule.takeover is Takeover.STRETCH,
    )
    await verification.prefill(PROMPT)
    rounds = []
    for chunk in ([ranked(PROMPT)[-1]], drafts):
        verdict = await verification.round([DraftToken(token) for token in chunk])
        rounds.append((verdict.accepted, len(verdict.tokens)))
    return rounds


def ranked(ids: list[int]) -> list[int]:
    return [int(token) for token in np.argsort(-logits_after(ids))]


LOW = 0.02
SAID = [*PROMPT, ranked(PROMPT)[0]]


async def test_after_a_rejection_a_token_needs_the_minimum_alone() -> None:
    likely = ranked(SAID)[1]
    assert await _after_a_rejection(Threshold(LOW), [likely]) == [(0, 1), (1, 2)]


async def test_within_a_stretch_a_token_must_be_the_verifiers_own() -> None:
    likely = ranked(SAID)[1]
    rule = Threshold(LOW, takeover=Takeover.STRETCH)
    assert await _after_a_rejection(rule, [likely]) == [(0, 1), (0, 1)]


async def test_a_token_that_both_would_write_ends_the_stretch_for_the_rest_of_its_chunk() -> None:
    agreed = ranked(SAID)[0]
    likely = ranked([*SAID, agreed])[1]
    rule = Threshold(LOW, takeover=Takeover.STRETCH)
    assert await _after_a_rejection(rule, [agreed, likely]) == [(0, 1), (2, 3)]


def test_an_unsure_drafter_hands_over_without_a_token() -> None:
    said = _run([Plan(4)], [0], rule=Threshold(0.0, 0.999))
    empty = [outcome for outcome in said.outcomes if outcome.method and not outcome.drafted]
    assert empty
    assert all(outcome.produced and not outcome.accepted for outcome in empty)
    assert said.ids == greedy(PROMPT, 40)


def test_the_stats_add_up() -> None:
    said = _run([Plan(3, 2), Plan(0), Plan(5)], [0, 2], 3)
    stats = said.finished.stats
    assert stats.passes == len(said.outcomes)
    assert stats.passed_tokens == sum(outcome.fed for outcome in said.outcomes)
    assert stats.draft_tokens + stats.verifier_tokens == len(said.ids)
    assert sum(stats.judged_by_position) == sum(outcome.judged for outcome in said.outcomes)
    assert sum(stats.accepted_by_position) == stats.draft_tokens
    assert stats.level == "token"


def test_a_session_that_never_drafts_counts_as_alone() -> None:
    script = Script(itertools.repeat(Plan(0)))
    said = asyncio.run(answer(script, itertools.cycle([0]), drafter=TableSession, max_tokens=5))
    assert said.finished.stats.level == "alone"
    assert not said.drafters
