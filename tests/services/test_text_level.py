"""Text of another vocabulary under verification: exact where it is promised, whole units where it is not."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.services.engine_cores import MAX_SESSIONS
from tests.services.text_worker import TextBench, Write, text_bench
from tests.services.verifier_bench import Answered, prompt
from weir.common.calls import stream_from
from weir.common.errors import ErrorCode, WeirError
from weir.engines.core.engine import CoreEngine
from weir.v1 import types_pb2, verifier_pb2
from weir.verifier.text_level import source, writer

QUESTIONS = ["What is the capital of France?", "Write three sentences about the sea."]
STORY = QUESTIONS[1]
NONSENSE = " Zebra quux flimflam."


@pytest.fixture(scope="module")
async def bench(verifier_engine: CoreEngine) -> AsyncIterator[TextBench]:
    async with text_bench(verifier_engine, draft_tokens=8) as bench:
        yield bench


def right(text: str) -> Write:
    return lambda said: text[len(said) :]


def wrong(text: str) -> Write:
    del text
    return lambda said: NONSENSE * 3


def half_right(text: str) -> Write:
    """Every third word is another one."""
    words = re.findall(r"\s*\S+", text)
    garbled = "".join(" word" if index % 3 == 2 else word for index, word in enumerate(words))
    return lambda said: garbled if not said else text[len(said) :][:30] + NONSENSE


def at_least(probability: float) -> verifier_pb2.Acceptance:
    return verifier_pb2.Acceptance(threshold=verifier_pb2.Threshold(min_probability=probability))


def drafted(answered: Answered) -> str:
    return "".join(delta.text for delta in answered.deltas if delta.source == types_pb2.SOURCE_DRAFT)


@pytest.mark.parametrize("write", [right, wrong, half_right])
@pytest.mark.parametrize("question", QUESTIONS)
async def test_lossless_text_is_the_verifiers_own_whatever_was_written(
    bench: TextBench, question: str, write: Any
) -> None:
    alone = await bench.alone(prompt(question, max_tokens=48))
    bench.worker.script(write(alone.text))
    answered = await bench.generate(prompt(question, max_tokens=48))
    assert answered.text == alone.text
    assert answered.ids == alone.ids
    assert answered.finished.finish_reason == alone.finished.finish_reason


async def test_right_text_is_accepted_and_saves_rounds(bench: TextBench) -> None:
    alone = await bench.alone(prompt(STORY, max_tokens=48))
    bench.worker.script(right(alone.text))
    answered = await bench.generate(prompt(STORY, max_tokens=48))
    (usage,) = answered.finished.usage
    assert usage.accepted_tokens > len(alone.ids) / 2
    assert answered.finished.rounds < len(alone.ids) / 2
    assert answered.finished.stats.level == "text"
    assert len(bench.worker.requests) == 1


async def test_after_a_correction_the_worker_continues_what_was_said(bench: TextBench) -> None:
    alone = await bench.alone(prompt(STORY, max_tokens=48))
    bench.worker.script(half_right(alone.text))
    await bench.generate(prompt(STORY, max_tokens=48))
    first, *later = bench.worker.said
    assert first == ""
    assert later
    assert all(alone.text.startswith(said) and said == said.rstrip() for said in later)
    assert later == sorted(set(later), key=len)


async def test_a_worker_of_whose_text_nothing_stands_is_given_up(bench: TextBench) -> None:
    alone = await bench.alone(prompt(STORY, max_tokens=48))
    bench.worker.script(wrong(alone.text))
    answered = await bench.generate(prompt(STORY, max_tokens=48))
    assert answered.text == alone.text
    assert 1 <= len(bench.worker.requests) <= source.MAX_FRUITLESS_CALLS


@pytest.mark.parametrize("fail_at", [0, 3])
async def test_a_worker_that_dies_within_a_unit_leaves_the_verifier_alone(
    bench: TextBench, fail_at: int
) -> None:
    alone = await bench.alone(prompt(STORY))
    error = WeirError(ErrorCode.ENGINE_CRASHED)
    bench.worker.script(right(alone.text), fail_at=fail_at, error=error)
    answered = await bench.generate(prompt(STORY))
    assert answered.text == alone.text
    assert len(bench.worker.requests) == 1
    await bench.generate(prompt(STORY))
    assert bench.worker.asked >= 1, "what it runs may have changed"


async def test_a_worker_that_stalls_leaves_the_verifier_alone(
    bench: TextBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = await bench.alone(prompt(STORY))
    monkeypatch.setattr(writer, "PATIENCE_S", 0.05)
    bench.worker.script(right(alone.text), hold_at=2)
    answered = await bench.generate(prompt(STORY))
    assert answered.text == alone.text
    async with asyncio.timeout(5):
        await bench.worker.idle.wait()


async def test_under_a_threshold_likely_enough_units_stand_as_written(bench: TextBench) -> None:
    written = "The sea is blue. It has many fish. Ships cross it every day."
    bench.worker.script(right(written))
    answered = await bench.generate(prompt(STORY, max_tokens=40), acceptance=at_least(0.0))
    assert answered.text.startswith(written)
    assert drafted(answered) == written


async def test_under_a_threshold_a_unit_falls_as_a_whole_and_the_verifier_writes_its_own(
    bench: TextBench,
) -> None:
    alone = await bench.alone(prompt("What is a dog?", max_tokens=60))
    sentences = re.findall(r"[^.]+\.", alone.text)
    assert len(sentences) >= 3, alone.text
    # Its beginning is what the verifier would write itself.
    spoilt = sentences[0] + sentences[1].rsplit(" ", 2)[0] + NONSENSE
    bench.worker.script(lambda said: spoilt if not said else alone.text[len(said) :])
    answered = await bench.generate(prompt("What is a dog?", max_tokens=60), acceptance=at_least(0.01))
    assert answered.text == alone.text
    sources = [(delta.source, delta.text) for delta in answered.deltas if delta.text]
    by_draft = [text for kind, text in sources if kind == types_pb2.SOURCE_DRAFT]
    assert by_draft[0] == sentences[0]
    own = "".join(text for kind, text in sources if kind == types_pb2.SOURCE_VERIFIER)
    assert own.startswith(sentences[1])
    assert bench.worker.said[1].startswith(sentences[0] + sentences[1])


SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 12}, "age": {"enum": [31, 32]}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


async def test_the_constraint_is_kept_whatever_was_written(bench: TextBench) -> None:
    asked = prompt("Describe Alice as JSON.", max_tokens=60)
    asked.output.json_schema = json.dumps(SCHEMA)
    alone = await bench.alone(asked)
    for write in (right, wrong, half_right):
        bench.worker.script(write(alone.text))
        assert (await bench.generate(asked)).text == alone.text


async def test_under_a_threshold_members_of_json_stand_as_written(bench: TextBench) -> None:
    asked = prompt("Describe Alice as JSON.", max_tokens=60)
    asked.output.json_schema = json.dumps(SCHEMA)
    bench.worker.script(right('{"name": "Bob, Jr.", "age": 33}'))
    answered = await bench.generate(asked, acceptance=at_least(0.0))
    value = json.loads(answered.text)
    assert value["name"] == "Bob, Jr."
    assert value["age"] in {31, 32}
    assert drafted(answered) == '{"name": "Bob, Jr.",'


async def test_cancelling_leaves_no_session_and_no_call(bench: TextBench) -> None:
    for _ in range(MAX_SESSIONS + 1):
        bench.worker.script(lambda said: "The sea is", hold_at=1)
        request = verifier_pb2.GenerateVerifiedRequest(prompt=prompt())
        async with stream_from(bench.stub.GenerateVerified, request) as responses:
            await anext(responses)
            await bench.worker.holding.wait()
        async with asyncio.timeout(5):
            await bench.worker.idle.wait()
    bench.worker.script(lambda said: "")
    assert (await bench.generate(prompt())).text


async def test_an_answer_that_ends_first_cancels_the_call(bench: TextBench) -> None:
    alone = await bench.alone(prompt(STORY))
    bench.worker.script(right(alone.text + " And so on." * 20))
    assert (await bench.generate(prompt(STORY))).text == alone.text
    async with asyncio.timeout(5):
        await bench.worker.idle.wait()


async def test_a_long_answer_is_written_in_several_calls(
    bench: TextBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = await bench.alone(prompt(STORY, max_tokens=48))
    monkeypatch.setattr("weir.verifier.text_level.opening.CALL_TOKENS", 8)
    bench.worker.script(right(alone.text))
    answered = await bench.generate(prompt(STORY, max_tokens=48))
    (usage,) = answered.finished.usage
    assert answered.text == alone.text
    assert usage.accepted_tokens == usage.drafted_tokens > 0
    assert len(bench.worker.requests) >= 2
