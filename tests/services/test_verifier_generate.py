"""GenerateVerified on the real model: lossless, attributed, and unbroken whatever fails around it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from tests.services.engine_cores import MAX_SESSIONS
from tests.services.verifier_bench import Bench, prompt, verifier_bench
from weir.common.calls import stream_from
from weir.common.errors import ErrorCode, WeirError
from weir.engines.core.engine import CoreEngine
from weir.engines.text.codec import load_codec
from weir.v1 import types_pb2, verifier_pb2

QUESTIONS = [
    "What is the capital of France?",
    "Write one sentence about the sea.",
    "List three colors.",
]


@pytest.fixture(scope="module")
async def bench(embedded_model: Path, verifier_engine: CoreEngine) -> AsyncIterator[Bench]:
    async with verifier_bench(
        load_codec(embedded_model).sha256,
        engine=verifier_engine,
        # A length that does not follow what the machine measures.
        hybrid={"overlap": "off", "draft_tokens": 4},
    ) as bench:
        yield bench


def right(reference: Sequence[int]) -> object:
    return lambda said: reference[len(said) : len(said) + 4]


def wrong(reference: Sequence[int]) -> object:
    return lambda said: [token + 1 for token in reference[len(said) : len(said) + 4]]


def half_right(reference: Sequence[int]) -> object:
    """Every third token is wrong."""
    return lambda said: [
        token + (index % 3 == 2)
        for index, token in enumerate(reference[len(said) : len(said) + 4], start=len(said))
    ]


@pytest.mark.parametrize("drafts", [right, wrong, half_right])
@pytest.mark.parametrize("question", QUESTIONS)
async def test_greedy_answer_is_the_verifiers_own_whatever_was_drafted(
    bench: Bench, question: str, drafts: object
) -> None:
    alone = await bench.alone(prompt(question))
    bench.drafter.script(drafts(alone.ids))  # type: ignore[operator]
    answered = await bench.generate(prompt(question))
    assert answered.ids == alone.ids
    assert answered.text == alone.text
    assert answered.finished.finish_reason == alone.finished.finish_reason


async def test_right_drafts_are_accepted_and_save_rounds(bench: Bench) -> None:
    alone = await bench.alone(prompt(QUESTIONS[1]))
    bench.drafter.script(right(alone.ids))  # type: ignore[arg-type]
    answered = await bench.generate(prompt(QUESTIONS[1]))
    (usage,) = answered.finished.usage
    assert usage.accepted_tokens == usage.drafted_tokens > 0
    assert answered.finished.rounds <= len(alone.ids) / 3
    assert alone.finished.rounds >= len(alone.ids)
    assert usage.tier == types_pb2.TIER_HYBRID
    assert usage.completion_tokens == len(answered.ids)


async def test_each_token_names_its_source(bench: Bench) -> None:
    alone = await bench.alone(prompt(QUESTIONS[1]))
    bench.drafter.script(half_right(alone.ids))  # type: ignore[arg-type]
    answered = await bench.generate(prompt(QUESTIONS[1]))
    by_draft = [token for token in answered.tokens if token.source == types_pb2.SOURCE_DRAFT]
    (usage,) = answered.finished.usage
    assert len(by_draft) == usage.accepted_tokens
    assert {token.source for token in answered.tokens} == {types_pb2.SOURCE_DRAFT, types_pb2.SOURCE_VERIFIER}
    for delta in answered.deltas:
        assert {token.source for token in delta.tokens} <= {delta.source}


async def test_the_drafter_gets_a_verdict_on_every_chunk(bench: Bench) -> None:
    alone = await bench.alone(prompt(QUESTIONS[1]))
    bench.drafter.script(half_right(alone.ids))  # type: ignore[arg-type]
    await bench.generate(prompt(QUESTIONS[1]))
    (start,) = bench.drafter.starts
    assert start.chunks_ahead == 1
    assert start.prompt.sampling.max_tokens == 24
    assert [ack.sequence for ack in bench.drafter.acks] == list(range(len(bench.drafter.acks)))
    assert all(ack.correction and ack.next_tokens and ack.chunks_ahead == 1 for ack in bench.drafter.acks)


@pytest.mark.parametrize(
    ("code", "fail_at"),
    [(ErrorCode.UNSUPPORTED, 0), (ErrorCode.QUEUE_FULL, 0), (ErrorCode.ENGINE_CRASHED, 2)],
)
async def test_a_lost_drafter_leaves_the_verifier_alone_and_the_text_unchanged(
    bench: Bench, code: ErrorCode, fail_at: int
) -> None:
    alone = await bench.alone(prompt(QUESTIONS[1]))
    bench.drafter.script(right(alone.ids), fail_at=fail_at, error=WeirError(code))  # type: ignore[arg-type]
    answered = await bench.generate(prompt(QUESTIONS[1]))
    assert answered.ids == alone.ids
    assert len(bench.drafter.acks) == fail_at


async def test_cancelling_closes_session_and_draft_stream(bench: Bench) -> None:
    for _ in range(MAX_SESSIONS + 1):
        bench.drafter.script(lambda said: [1], hold_at=1)
        request = verifier_pb2.GenerateVerifiedRequest(prompt=prompt())
        async with stream_from(bench.stub.GenerateVerified, request) as responses:
            await anext(responses)
            await bench.drafter.holding.wait()
        async with asyncio.timeout(5):
            await bench.drafter.closed.wait()
    assert (await bench.alone(prompt())).text


async def test_sessions_past_the_bound_are_refused_with_a_delay(bench: Bench) -> None:
    bench.drafter.script(lambda said: [1], hold_at=1)
    request = verifier_pb2.GenerateVerifiedRequest(prompt=prompt())
    async with asyncio.TaskGroup() as tasks:
        held = [tasks.create_task(bench.generate(prompt())) for _ in range(MAX_SESSIONS)]
        while len(bench.drafter.starts) < MAX_SESSIONS:
            await bench.drafter.holding.wait()
            await asyncio.sleep(0)
        with pytest.raises(WeirError) as refused:
            async with stream_from(bench.stub.GenerateVerified, request) as responses:
                await anext(responses)
        for task in held:
            task.cancel()
    assert refused.value.code is ErrorCode.QUEUE_FULL
    assert refused.value.retry_after_s


async def test_another_tokenizer_is_refused(bench: Bench) -> None:
    bench.drafter.script(lambda said: [1], tokenizer_sha256="0" * 64)
    with pytest.raises(WeirError) as refused:
        await bench.generate(prompt())
    assert refused.value.code is ErrorCode.TOKENIZER_MISMATCH


async def test_the_constraint_is_kept_whatever_was_drafted(bench: Bench) -> None:
    asked = prompt("Describe Alice as JSON.", max_tokens=60)
    asked.output.json_schema = json.dumps(
        {
            "type": "object",
            "properties": {"name": {"type": "string", "maxLength": 12}, "age": {"enum": [31, 32]}},
            "required": ["name", "age"],
            "additionalProperties": False,
        }
    )  # fmt: skip
    alone = await bench.alone(asked)
    assert set(json.loads(alone.text)) == {"name", "age"}
    for drafts in (right, wrong, half_right):
        bench.drafter.script(drafts(alone.ids))  # type: ignore[arg-type]
        assert (await bench.generate(asked)).text == alone.text


async def test_choices_end_as_soon_as_one_is_said(bench: Bench) -> None:
    asked = prompt("Is Paris in France?")
    asked.output.choices.choice.extend(["yes", "no"])
    answered = await bench.alone(asked)
    assert answered.text in {"yes", "no"}
    assert answered.finished.finish_reason == types_pb2.FINISH_REASON_STOP


async def test_a_broken_schema_is_refused_before_anything_is_drafted(bench: Bench) -> None:
    bench.drafter.script(lambda said: [1])
    asked = prompt()
    asked.output.json_schema = '{"type": '
    with pytest.raises(WeirError) as refused:
        await bench.generate(asked)
    assert refused.value.code is ErrorCode.INVALID_CONSTRAINT
    assert not bench.drafter.starts


async def test_a_seed_repeats_a_sampled_answer(bench: Bench) -> None:
    asked = prompt(QUESTIONS[1], temperature=1.0, top_p=0.95, seed=7)
    first, second = await bench.alone(asked), await bench.alone(asked)
    assert first.ids == second.ids
    other = await bench.alone(prompt(QUESTIONS[1], temperature=1.0, top_p=0.95, seed=8))
    assert other.ids != first.ids


async def test_stop_strings_end_the_text_before_them(bench: Bench) -> None:
    alone = await bench.alone(prompt(QUESTIONS[0]))
    answered = await bench.alone(prompt(QUESTIONS[0], stop=[" of"]))
    assert answered.text == alone.text.partition(" of")[0]
    assert answered.finished.finish_reason == types_pb2.FINISH_REASON_STOP


async def test_max_tokens_bounds_the_answer_with_drafts_too(bench: Bench) -> None:
    alone = await bench.alone(prompt(QUESTIONS[1]))
    for limit in (1, 2, 5):
        bench.drafter.script(right(alone.ids))  # type: ignore[arg-type]
        answered = await bench.generate(prompt(QUESTIONS[1], max_tokens=limit))
        assert answered.ids == alone.ids[:limit]
        assert answered.finished.finish_reason == types_pb2.FINISH_REASON_LENGTH


async def test_a_prompt_past_the_context_is_refused(bench: Bench) -> None:
    with pytest.raises(WeirError) as refused:
        await bench.generate(prompt("word " * 9000))
    assert refused.value.code is ErrorCode.CONTEXT_TOO_LONG


@pytest.mark.parametrize("value", [float("nan"), -0.1, 1.5, float("inf")])
async def test_a_threshold_that_is_no_probability_is_refused(bench: Bench, value: float) -> None:
    acceptance = verifier_pb2.Acceptance(threshold=verifier_pb2.Threshold(min_probability=value))
    with pytest.raises(WeirError) as refused:
        await bench.generate(prompt(), acceptance=acceptance)
    assert refused.value.code is ErrorCode.INVALID_REQUEST


async def test_a_threshold_lets_unlikely_drafts_stand(bench: Bench) -> None:
    bench.drafter.script(lambda said: [1234] if len(said) < 3 else [])
    acceptance = verifier_pb2.Acceptance(threshold=verifier_pb2.Threshold(min_probability=0.0))
    answered = await bench.generate(prompt(), acceptance=acceptance)
    assert answered.tokens[0].id == 1234
    assert answered.tokens[0].source == types_pb2.SOURCE_DRAFT
