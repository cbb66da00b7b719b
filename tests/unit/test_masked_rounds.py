"""Rounds under an output constraint: what comes out follows the masked distribution."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sampling_oracle import SIGNIFICANCE, Counts, p_value, proposal, reference
from tests.table_model import VOCABULARY, TableSession, logits_after
from weir.engines.base import Constraint, Prediction
from weir.engines.text.codec import Codec, load_codec
from weir.verifier.acceptance import DraftToken, Lossless, Speculative, Threshold, judge
from weir.verifier.constraint import TokenMasks
from weir.verifier.distribution import Probabilities, Shape, generator
from weir.verifier.rounds import Verification

PROMPT = [1, 2, 3]
RUNS, DRAFTER = 1500, 6
# Ids that may follow each last id: the drafter knows nothing of it.
ALLOWED = {last: {(last + step) % VOCABULARY for step in (1, 2, 5, 7)} for last in range(VOCABULARY)}


class Follows:
    """A constraint over the table model's ids, as ``TokenMasks`` is one over a real vocabulary."""

    complete = False

    def __init__(self) -> None:
        self._last = PROMPT[-1]

    def preview(self, ids: Sequence[int]) -> list[bytes]:
        last, masks = self._last, [mask(ALLOWED[self._last])]
        for token in ids:
            if token not in ALLOWED[last]:
                break
            masks.append(mask(ALLOWED[token]))
            last = token
        return masks

    def advance(self, ids: Sequence[int]) -> None:
        for token in ids:
            assert token in ALLOWED[self._last]
            self._last = token


def mask(ids: set[int]) -> bytes:
    bits = np.zeros(VOCABULARY, np.uint8)
    bits[list(ids)] = 1
    return np.packbits(bits, bitorder="little").tobytes()


def masked(ids: Sequence[int], shape: Shape) -> Probabilities:
    row = logits_after(ids).copy()
    row[[token for token in range(VOCABULARY) if token not in ALLOWED[ids[-1]]]] = -np.inf
    return reference(row, shape)


async def joint(judged_by: Speculative, shape: Shape, *, told: bool, bonus: bool) -> Counts:
    """Count two tokens under the constraint, drafted without it."""
    rng, counts = np.random.default_rng(5), np.zeros((VOCABULARY, VOCABULARY), np.int64)
    for _ in range(RUNS):
        verifier = Verification(TableSession(), judged_by, frozenset(), cast("TokenMasks", Follows()))
        await verifier.prefill(PROMPT)
        said: list[int] = []
        while len(said) < 2:
            chunk, text = [], PROMPT + said
            for _ in range(2):
                q = reference(logits_after(text, DRAFTER), shape)
                token = int(rng.choice(VOCABULARY, p=q))
                chunk.append(DraftToken(token, proposal(q) if told else ()))
                text = [*text, token]
            said += [token.id for token in (await verifier.round(chunk, bonus=bonus)).tokens]
        counts[said[0], said[1]] += 1
    return counts.ravel()


def expected(shape: Shape) -> Probabilities:
    first = masked(PROMPT, shape)
    rest = [masked([*PROMPT, token], shape) for token in range(VOCABULARY)]
    return (first[:, None] * np.array(rest)).ravel()


@pytest.mark.parametrize(
    ("shape", "told", "bonus"),
    [(Shape(4.0), True, True), (Shape(4.0), False, False), (Shape(4.0, 3, 0.9), True, False)],
    ids=str,
)
async def test_sampled_tokens_follow_the_masked_distribution(shape: Shape, told: bool, bonus: bool) -> None:
    counts = await joint(Speculative(shape, generator(5)), shape, told=told, bonus=bonus)
    assert p_value(counts, expected(shape)) > SIGNIFICANCE


class ReplacesTheForbiddenFromTheWhole(Speculative):
    """Wrong: a forbidden draft that was drawn from a known q is replaced from p, not from the residual."""

    def replace(self, draft: DraftToken, prediction: Prediction) -> int:
        row = prediction.logits
        assert row is not None
        return super().replace(draft, prediction) if row[draft.id] > -np.inf else self.choose(prediction)


async def test_forbidden_drafts_too_are_replaced_from_the_residual() -> None:
    shape = Shape(4.0)
    counts = await joint(ReplacesTheForbiddenFromTheWhole(shape, generator(5)), shape, told=True, bonus=True)
    assert p_value(counts, expected(shape)) < SIGNIFICANCE


@settings(deadline=None, max_examples=60)
@given(
    drafts=st.lists(st.lists(st.integers(0, VOCABULARY - 1), max_size=5), max_size=8),
    temperature=st.sampled_from([0.0, 1.0]),
    minimum=st.none() | st.floats(0, 1),
    bonus=st.booleans(),
)
async def test_nothing_forbidden_is_ever_said(
    drafts: list[list[int]], temperature: float, minimum: float | None, bonus: bool
) -> None:
    rule = Lossless() if minimum is None else Threshold(minimum)
    judged_by = judge(rule, Shape(temperature), generator(1))
    verifier = Verification(TableSession(), judged_by, frozenset(), cast("TokenMasks", Follows()))
    await verifier.prefill(PROMPT)
    last = PROMPT[-1]
    for chunk in drafts:
        for token in (await verifier.round([DraftToken(i) for i in chunk], bonus=bonus)).tokens:
            assert token.id in ALLOWED[last]
            last = token.id


@settings(deadline=None, max_examples=60)
@given(drafts=st.lists(st.lists(st.integers(0, VOCABULARY - 1), max_size=5), max_size=8))
async def test_greedy_text_under_a_constraint_is_that_without_drafts(drafts: list[list[int]]) -> None:
    verifier = Verification(
        TableSession(), judge(Lossless(), Shape(), generator(1)), frozenset(), cast("TokenMasks", Follows())
    )
    await verifier.prefill(PROMPT)
    text = list(PROMPT)
    for chunk in drafts:
        for token in (await verifier.round([DraftToken(i) for i in chunk])).tokens:
            assert token.id == int(np.argmax(masked(text, Shape(1.0))))
            text.append(token.id)


@pytest.fixture(scope="module")
def codec(embedded_model: Path) -> Codec:
    return load_codec(embedded_model)


async def masks_of(codec: Codec, *choices: str) -> TokenMasks:
    tokenizer = codec.llguidance_tokenizer()
    return await TokenMasks.compile(
        Constraint("choices", choices), tokenizer, codec.vocab_size, codec.stop_ids
    )


def allowed_by(mask: bytes) -> set[int]:
    return set(np.flatnonzero(np.unpackbits(np.frombuffer(mask, np.uint8), bitorder="little")).tolist())


async def test_a_preview_leaves_the_state_as_it_was(codec: Codec) -> None:
    masks = await masks_of(codec, "yes, perhaps", "yes, surely")
    ids = codec.encode("yes, perhaps")
    before = masks.preview([])
    assert len(masks.preview(ids)) == len(ids) + 1
    assert masks.preview([]) == before


async def test_a_preview_ends_at_the_first_forbidden_id(codec: Codec) -> None:
    masks = await masks_of(codec, "yes, perhaps", "yes, surely")
    ids = codec.encode("yes, perhaps")
    assert len(masks.preview([*ids[:2], *codec.encode("zebra")])) == 3


async def test_stop_ids_are_allowed_only_where_the_answer_may_end(codec: Codec) -> None:
    masks = await masks_of(codec, "yes, perhaps")
    ids, stop = codec.encode("yes, perhaps"), min(codec.stop_ids)
    assert len(masks.preview([ids[0], stop])) == 2
    assert len(masks.preview([*ids, stop, stop])) == len(ids) + 2


async def test_behind_a_whole_answer_only_an_end_may_follow(codec: Codec) -> None:
    masks = await masks_of(codec, "yes, perhaps")
    ids = codec.encode("yes, perhaps")
    after = allowed_by(masks.preview(ids)[-1])
    assert after
    assert after <= codec.stop_ids
    masks.advance(ids)
    assert masks.complete


async def test_each_mask_allows_the_id_that_was_taken_next(codec: Codec) -> None:
    schema = json.dumps({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]})
    masks = await TokenMasks.compile(
        Constraint("json_schema", (schema,)), codec.llguidance_tokenizer(), codec.vocab_size, codec.stop_ids
    )
    ids = codec.encode('{"a": 31}')
    for token, before in zip(ids, masks.preview(ids), strict=False):
        assert token in allowed_by(before)
