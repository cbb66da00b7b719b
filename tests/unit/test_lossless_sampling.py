"""Speculative sampling: tokens are distributed as the verifier's own, and a wrong rule is told apart."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from tests.sampling_oracle import SIGNIFICANCE, Counts, p_value, prediction_of, proposal, reference
from tests.table_model import VOCABULARY, TableSession, logits_after
from weir.engines.base import Candidate, Prediction
from weir.verifier.acceptance import DraftToken, Judge, Lossless, Speculative, judge
from weir.verifier.distribution import Probabilities, Shape, generator
from weir.verifier.rounds import Verification

PROMPT = (1, 2, 3)
RUNS = 2000
VERIFIER, DRAFTER = 0, 7


@dataclass(frozen=True)
class Case:
    """How it is drafted and judged; the drafter is another table model, truncated in its own way."""

    shape: Shape
    drafted: Shape
    told: bool
    bonus: bool
    chunk: int = 3


CASES = [
    Case(Shape(1.0), Shape(1.0), told=True, bonus=True),
    Case(Shape(1.0), Shape(1.0), told=False, bonus=True),
    Case(Shape(0.7), Shape(0.7), told=True, bonus=False),
    Case(Shape(1.5, top_k=4), Shape(1.5, top_k=4), told=True, bonus=True),
    Case(Shape(1.5, top_k=4), Shape(1.5, top_k=4), told=False, bonus=False),
    Case(Shape(2.0, top_p=0.8), Shape(2.0, top_p=0.8), told=True, bonus=False, chunk=1),
    Case(Shape(2.0, top_k=6, top_p=0.9), Shape(1.0), told=True, bonus=True, chunk=2),
]


@functools.cache
def chances(shape: Shape, last_two: tuple[int, ...], seed: int) -> Probabilities:
    return reference(logits_after(last_two, seed), shape)


@functools.cache
def drafters(shape: Shape, last_two: tuple[int, ...]) -> tuple[Probabilities, tuple[Candidate, ...]]:
    """Return what is drafted from there, and how the drafter tells it."""
    q = chances(shape, last_two, DRAFTER)
    return q, proposal(q)


def drafts(text: tuple[int, ...], case: Case, rng: np.random.Generator) -> list[DraftToken]:
    """Draw a chunk from the drafter's own distributions."""
    drafted: list[DraftToken] = []
    for _ in range(case.chunk):
        q, candidates = drafters(case.drafted, text[-2:])
        token = int(rng.choice(VOCABULARY, p=q))
        drafted.append(DraftToken(token, candidates if case.told else ()))
        text = (*text, token)
    return drafted


async def two_tokens(judged_by: Judge, case: Case, rng: np.random.Generator) -> tuple[int, int]:
    verifier = Verification(TableSession(VERIFIER), judged_by, frozenset(), None)
    await verifier.prefill(PROMPT)
    said: tuple[int, ...] = ()
    while len(said) < 2:
        chunk = drafts(PROMPT + said, case, rng)
        said += tuple(token.id for token in (await verifier.round(chunk, bonus=case.bonus)).tokens)
    return said[0], said[1]


async def joint(judged_by: Judge, case: Case) -> Counts:
    rng = np.random.default_rng(1)  # the same seed as the judge's: the two must not depend on each other
    counts = np.zeros((VOCABULARY, VOCABULARY), np.int64)
    for _ in range(RUNS):
        counts[await two_tokens(judged_by, case, rng)] += 1
    return counts.ravel()


def expected(shape: Shape) -> Probabilities:
    first = chances(shape, PROMPT[-2:], VERIFIER)
    second = [chances(shape, (PROMPT[-1], token), VERIFIER) for token in range(VOCABULARY)]
    return (first[:, None] * np.array(second)).ravel()


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_two_tokens_follow_the_verifiers_joint_distribution(case: Case) -> None:
    counts = await joint(judge(Lossless(), case.shape, generator(1)), case)
    assert p_value(counts, expected(case.shape)) > SIGNIFICANCE


async def later_two_of_three(judged_by: Judge, case: Case, rng: np.random.Generator) -> tuple[int, int]:
    """Generate three tokens with a drafter that is ahead: its drafts stay where the bonus says the same."""
    verifier = Verification(TableSession(VERIFIER), judged_by, frozenset(), None)
    await verifier.prefill(PROMPT)
    said: tuple[int, ...] = ()
    ahead: list[DraftToken] = []
    while len(said) < 3:
        ahead = ahead or drafts(PROMPT + said, case, rng)
        round_ = await verifier.round(ahead[:1])
        said += tuple(token.id for token in round_.tokens)
        kept = round_.accepted and ahead[1:] and ahead[1].id == said[-1]
        ahead = ahead[2:] if kept else []
    return said[1], said[2]


@pytest.mark.parametrize("told", [True, False], ids=["q known", "draft as a point"])
async def test_drafts_kept_because_the_verifier_said_the_same_stay_lossless(told: bool) -> None:
    case = Case(Shape(1.5, top_k=4), Shape(1.5, top_k=4), told=told, bonus=True)
    judged_by, rng = judge(Lossless(), case.shape, generator(1)), np.random.default_rng(1)
    counts = np.zeros((VOCABULARY, VOCABULARY), np.int64)
    for _ in range(RUNS):
        counts[await later_two_of_three(judged_by, case, rng)] += 1
    joint_of_three = np.zeros((VOCABULARY, VOCABULARY))
    for first, share in enumerate(chances(case.shape, PROMPT[-2:], VERIFIER)):
        second = share * chances(case.shape, (PROMPT[-1], first), VERIFIER)
        third = np.array([chances(case.shape, (first, token), VERIFIER) for token in range(VOCABULARY)])
        joint_of_three += second[:, None] * third
    assert p_value(counts.ravel(), joint_of_three.ravel()) > SIGNIFICANCE


class TakesAll(Speculative):
    """Wrong: whatever was drafted stands."""

    def accepts(self, draft: DraftToken, prediction: Prediction) -> bool:
        del draft, prediction
        return True


class ReplacesFromTheWhole(Speculative):
    """Wrong: what replaces a draft is drawn from p, not from what p has beyond q."""

    def replace(self, draft: DraftToken, prediction: Prediction) -> int:
        del draft
        return self.choose(prediction)


class BelievesTheDraft(Speculative):
    """Wrong: a draft of unknown origin is judged as if it had been drawn evenly."""

    def accepts(self, draft: DraftToken, prediction: Prediction) -> bool:
        even = np.full(VOCABULARY, 1 / VOCABULARY)
        return super().accepts(DraftToken(draft.id, proposal(even)), prediction)


@pytest.mark.parametrize(
    ("wrong", "case"), [(TakesAll, CASES[0]), (ReplacesFromTheWhole, CASES[0]), (BelievesTheDraft, CASES[1])]
)
async def test_a_wrong_rule_is_told_apart(
    wrong: Callable[[Shape, np.random.Generator], Speculative], case: Case
) -> None:
    counts = await joint(wrong(case.shape, generator(1)), case)
    assert p_value(counts, expected(case.shape)) < SIGNIFICANCE


TARGET = np.log(np.array([0.30, 0.22, 0.15, 0.12, 0.09, 0.06, 0.04, 0.02])).astype(np.float32)
ANOTHER = np.array([0.05, 0.05, 0.40, 0.05, 0.25, 0.05, 0.10, 0.05])
SAME = np.exp(TARGET.astype(np.float64))
UNLIKELY = np.array([0.0, 0.0, 0.0, 0.0, 0.1, 0.2, 0.3, 0.4])
ONE = np.eye(8)[1]
ONE_TOKEN = [
    *((ANOTHER, shape) for shape in (Shape(0.7), Shape(1.3, 4), Shape(0.9, None, 0.8), Shape(1.0, 5, 0.7))),
    *(
        (q / q.sum(), shape)
        for q in (ANOTHER, SAME, UNLIKELY, ONE)
        for shape in (Shape(1.0), Shape(0.8, 6, 0.9))
    ),
]


def outputs(q: Probabilities, shape: Shape, *, told: bool) -> Counts:
    """Draw x ~ q, judge it, and count what comes out."""
    judged_by, rng = judge(Lossless(), shape, generator(3)), np.random.default_rng(3)
    after = [prediction_of(TARGET, token) for token in range(len(q))]
    candidates = proposal(q) if told else ()
    counts = np.zeros(len(q), np.int64)
    for drawn in rng.choice(len(q), size=3000, p=q):
        draft, here = DraftToken(int(drawn), candidates), after[drawn]
        counts[draft.id if judged_by.accepts(draft, here) else judged_by.replace(draft, here)] += 1
    return counts


@pytest.mark.parametrize("told", [True, False], ids=["q known", "draft as a point"])
@pytest.mark.parametrize(("q", "shape"), ONE_TOKEN, ids=str)
def test_one_token_follows_the_verifiers_distribution(q: Probabilities, shape: Shape, told: bool) -> None:
    assert p_value(outputs(q, shape, told=told), reference(TARGET, shape)) > SIGNIFICANCE
