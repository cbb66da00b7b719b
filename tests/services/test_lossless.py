"""Losslessness on the real model: its own text at temperature 0, its own distribution above."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import pytest

from tests.sampling_oracle import SIGNIFICANCE, p_value, prediction_of, proposal, reference
from weir.common.config.model import LocalModel
from weir.engines import openvino
from weir.engines.base import (
    Candidate,
    ChatMessage,
    Constraint,
    Prediction,
    Session,
    SessionEngine,
    TextCodec,
)
from weir.verifier.acceptance import DraftToken, Judge, Lossless, Speculative, judge
from weir.verifier.constraint import TokenMasks
from weir.verifier.distribution import Probabilities, Shape, generator
from weir.verifier.rounds import Round, Verification

DATA = Path(__file__).parents[1] / "data"
PROMPTS = 100
ANSWER_TOKENS = 12
AT_ONCE = 8
# Every so many drafted tokens the drafter says its second choice.
WRONG_EVERY = 5


def prompts() -> list[str]:
    """Return real questions, the shortest: customers' of a bank, school maths and exams."""
    mixed: list[str] = json.loads((DATA / "prompts_sample.json").read_text(encoding="utf-8"))
    lines = (DATA / "routing_sample.jsonl").read_text(encoding="utf-8").splitlines()
    return sorted({*mixed, *(json.loads(line)["prompt"] for line in lines)}, key=len)[:PROMPTS]


@pytest.fixture(scope="module")
async def engine(embedded_model: Path) -> AsyncIterator[SessionEngine]:
    running = LocalModel(max_running=1, max_sessions=AT_ONCE)
    engine = openvino.create("embedded", embedded_model, running, max_context=2048, sessions_only=True)
    await engine.start()
    yield engine
    await engine.aclose()


@dataclass
class Compared:
    """One answer without drafts, and the rounds of the same answer with them."""

    alone: list[int]
    rounds: list[Round]

    @property
    def verified(self) -> list[int]:
        return [token.id for round_ in self.rounds for token in round_.tokens][: len(self.alone)]


async def alone(session: Session, last: int, stop_ids: frozenset[int]) -> tuple[list[int], list[int]]:
    """Decode token by token; return the answer and each token's strongest rival."""
    answer: list[int] = []
    rivals: list[int] = []
    while len(answer) < ANSWER_TOKENS and last not in stop_ids:
        [prediction] = await session.extend([last], top=2)
        last = prediction.top[0].id
        answer.append(last)
        rivals.append(prediction.top[1].id)
    return answer, rivals


async def compare(engine: SessionEngine, prompt: str, number: int) -> Compared:
    """Decode an answer alone, then again with drafts, in the same session rewound to the prompt."""
    *head, last = engine.codec.encode_chat([ChatMessage("user", prompt)])
    async with aclosing(await engine.open_session()) as session:
        await session.extend(head, last_only=True)
        answer, rivals = await alone(session, last, engine.codec.stop_ids)
        await session.rewind(len(head))
        drafted = [
            rival if (place + number) % WRONG_EVERY == 0 else token
            for place, (token, rival) in enumerate(zip(answer, rivals, strict=True))
        ]
        judged_by = judge(Lossless(), Shape(), generator(None))
        verifier = Verification(session, judged_by, engine.codec.stop_ids, None)
        await verifier.prefill([last])
        compared = Compared(answer, [])
        for size in itertools.cycle([4, 1, 7, 2, 0, 3]):
            said = len(compared.verified)
            if said == len(answer):
                return compared
            chunk = [DraftToken(token) for token in drafted[said : said + size]]
            compared.rounds.append(await verifier.round(chunk, bonus=number % 3 > 0))
    raise AssertionError


@pytest.mark.timeout(300)
async def test_verified_text_is_the_models_own_on_100_real_prompts(engine: SessionEngine) -> None:
    places = asyncio.Semaphore(AT_ONCE)

    async def one(number: int, prompt: str) -> Compared:
        async with places:
            return await compare(engine, prompt, number)

    questions = prompts()
    answers = await asyncio.gather(*(one(number, prompt) for number, prompt in enumerate(questions)))
    assert len(set(questions)) == PROMPTS
    assert [answer.verified for answer in answers] == [answer.alone for answer in answers]
    rounds = [round_ for answer in answers for round_ in answer.rounds]
    rejected = Counter(round_.accepted for round_ in rounds if round_.accepted < round_.judged)
    assert rejected.total() > PROMPTS
    assert len(rejected) >= 4
    assert sum(round_.accepted for round_ in rounds) > 3 * PROMPTS


async def test_sampled_text_keeps_its_constraint_whatever_was_drafted(engine: SessionEngine) -> None:
    fruits = ("red apple", "green pear")
    codec = engine.codec
    *head, last = codec.encode_chat([ChatMessage("user", "Name a fruit.")])
    judged_by, said = judge(Lossless(), Shape(1.5), generator(4)), set()
    async with aclosing(await engine.open_session()) as session:
        await session.extend(head, last_only=True)
        for drafted in ("red apple", "green apple", "a banana", "redder", ""):
            masks = await TokenMasks.compile(
                Constraint("choices", fruits), codec.llguidance_tokenizer(), codec.vocab_size, codec.stop_ids
            )
            verifier = Verification(session, judged_by, codec.stop_ids, masks)
            await verifier.prefill([last])
            ids = [token.id for token in (await verifier.round(_drafted(codec, drafted))).tokens]
            while not verifier.ended:
                ids += [token.id for token in (await verifier.round([])).tokens]
            said.add(b"".join(codec.token_bytes(token) for token in ids).decode())
            await session.rewind(len(head))
    assert said <= set(fruits)


def _drafted(codec: TextCodec, text: str) -> list[DraftToken]:
    return [DraftToken(token) for token in codec.encode(text)]


SHAPE = Shape(1.0, top_k=8)
DRAFTED = Shape(1.6, top_k=12)
RUNS = 1500


@dataclass(frozen=True)
class Row:
    """The real model's prediction at one place, and what a drafter draws from there: p, flattened."""

    prediction: Prediction
    logprobs: Probabilities
    q: Probabilities
    told: tuple[Candidate, ...]

    @classmethod
    def of(cls, logits: npt.NDArray[np.float32]) -> Row:
        wide = logits.astype(np.float64)
        q = reference(logits, DRAFTED)
        normalized = np.asarray(wide - np.logaddexp.reduce(wide))
        return cls(prediction_of(logits, top=12), normalized, q, proposal(q))


Place = tuple[int, ...]
Tree = dict[Place, Row]


@pytest.fixture(scope="module")
async def tree(engine: SessionEngine) -> Tree:
    """The real rows of an answer's first token, and of its second after each that may be drafted."""
    asked = engine.codec.encode_chat([ChatMessage("user", "Tell me something about rivers.")])
    async with aclosing(await engine.open_session()) as session:
        [first] = await session.extend(asked, logits=True, last_only=True)
        assert first.logits is not None
        rows: Tree = {(): Row.of(first.logits)}
        for token in np.flatnonzero(rows[()].q).tolist():
            [second] = await session.extend([token], logits=True)
            assert second.logits is not None
            rows[(token,)] = Row.of(second.logits)
            await session.rewind(len(asked))
        return rows


class Replayed:
    """A session that answers from the tree; it was prefilled with all of the prompt but its last token."""

    last_pass = None

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._ids: list[int] = []

    @property
    def length(self) -> int:
        return len(self._ids)

    async def extend(self, ids: Sequence[int], **_options: object) -> list[Prediction]:
        predictions = []
        for token, following in itertools.zip_longest(ids, ids[1:]):
            self._ids.append(token)
            row = self._tree[tuple(self._ids[1:])]
            known = None if following is None else float(row.logprobs[following])
            predictions.append(replace(row.prediction, next_logprob=known))
        return predictions

    async def rewind(self, length: int) -> None:
        del self._ids[length:]


async def first_two(
    tree: Tree, judged_by: Judge, rng: np.random.Generator, *, told: bool, ahead: int
) -> Place:
    """Generate two tokens from chunks of up to ``ahead`` drafts, the last one without a bonus."""
    verifier = Verification(cast("Session", Replayed(tree)), judged_by, frozenset(), None)
    await verifier.prefill([0])
    said: Place = ()
    while len(said) < 2:
        chunk: list[DraftToken] = []
        while len(said) + len(chunk) < 2 and len(chunk) < ahead:
            row = tree[(*said, *(draft.id for draft in chunk))]
            token = int(rng.choice(len(row.q), p=row.q))
            chunk.append(DraftToken(token, row.told if told else ()))
        round_ = await verifier.round(chunk, bonus=len(said) + len(chunk) < 2)
        said += tuple(token.id for token in round_.tokens)
    return said


async def fit(tree: Tree, judged_by: Judge, *, told: bool, ahead: int) -> float:
    """Return the p-value of two-token outputs under the real model's own distribution."""
    own = {place: reference(_logits(row), SHAPE) for place, row in tree.items()}
    pairs = [
        (first, second) for first in np.flatnonzero(own[()]) for second in np.flatnonzero(own[(int(first),)])
    ]
    expected = np.array([own[()][first] * own[(int(first),)][second] for first, second in pairs])
    rng = np.random.default_rng(2)
    seen = Counter([await first_two(tree, judged_by, rng, told=told, ahead=ahead) for _ in range(RUNS)])
    counts = np.array([seen.pop((int(first), int(second)), 0) for first, second in pairs])
    return 0.0 if seen else p_value(counts, expected)


def _logits(row: Row) -> npt.NDArray[np.float32]:
    assert row.prediction.logits is not None
    return row.prediction.logits


@pytest.mark.parametrize(("told", "ahead"), [(True, 2), (False, 2), (True, 1)])
async def test_first_tokens_of_the_real_model_follow_its_own_distribution(
    tree: Tree, told: bool, ahead: int
) -> None:
    assert await fit(tree, judge(Lossless(), SHAPE, generator(2)), told=told, ahead=ahead) > SIGNIFICANCE


class TakesWhatMayBe(Speculative):
    """Wrong: a draft stands wherever it is possible at all."""

    def accepts(self, draft: DraftToken, prediction: Prediction) -> bool:
        return self._target(prediction).of(draft.id) > 0


async def test_the_real_models_distribution_tells_a_wrong_rule_apart(tree: Tree) -> None:
    assert await fit(tree, TakesWhatMayBe(SHAPE, generator(2)), told=True, ahead=2) < SIGNIFICANCE
