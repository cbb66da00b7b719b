"""A verified answer over real servers: metrics, span and the answer's own account tell the same."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.metering import metered
from tests.services.verifier_bench import Answered, Bench, prompt, verifier_bench
from tests.tracing import test_tracing as tracing
from weir.common import conventions as names
from weir.common.calls import bidi, stream_from
from weir.engines.core.engine import CoreEngine
from weir.engines.text.codec import load_codec
from weir.v1 import slm_worker_pb2, types_pb2, verifier_pb2

QUESTION = "Write one sentence about the sea."
ESCALATING = {"escalate_below": 0.5, "window": 4, "residency": types_pb2.RESIDENCY_ANY}


@pytest.fixture(scope="module")
async def bench(embedded_model: Path, verifier_engine: CoreEngine) -> AsyncIterator[Bench]:
    async with verifier_bench(load_codec(embedded_model).sha256, engine=verifier_engine) as bench:
        yield bench


@pytest.fixture(scope="module")
async def own(bench: Bench) -> list[int]:
    """The tokens that the verifier writes alone."""
    return (await bench.alone(prompt(QUESTION))).ids


@pytest.fixture(scope="module")
def exporter() -> InMemorySpanExporter:
    exporter = InMemorySpanExporter()
    tracing().add_span_processor(SimpleSpanProcessor(exporter))
    return exporter


@pytest.fixture
def spans(bench: Bench, exporter: InMemorySpanExporter) -> InMemorySpanExporter:
    bench.frontier.script()
    exporter.clear()
    return exporter


def of_model(spans: InMemorySpanExporter) -> ReadableSpan:
    """Return the span of the only answer since the exporter was cleared."""
    (span,) = (span for span in spans.get_finished_spans() if span.name.startswith("chat "))
    return span


def rounds(span: ReadableSpan, name: str) -> list[Any]:
    events = [event.attributes or {} for event in span.events if event.name == names.ROUNDS_EVENT]
    return [entry for attributes in events for entry in attributes[name]]  # type: ignore[union-attr]


def drafts(reference: Sequence[int], *, wrong_every: int) -> Any:
    """Draft what the verifier would write, but for every so many tokens."""
    return lambda said: [
        token + (index % wrong_every == wrong_every - 1)
        for index, token in enumerate(reference[len(said) : len(said) + 4], start=len(said))
    ]


@pytest.fixture
async def answer(bench: Bench, own: list[int], spans: InMemorySpanExporter) -> Answered:
    """An answer with drafts of which every third token is wrong; nothing before it is measured."""
    del spans
    bench.drafter.script(drafts(own, wrong_every=3))
    metered()
    return await bench.generate(prompt(QUESTION))


async def test_metrics_agree_with_the_answers_own_account(answer: Answered) -> None:
    finished, found = answer.finished, metered()
    (usage,), stats = finished.usage, finished.stats
    assert usage.accepted_tokens > 0
    assert found.total(names.VERIFY_ROUNDS) == finished.rounds
    assert found.total(names.VERIFY_PASSES) == stats.passes
    assert found.total(names.VERIFY_DRAFTED) == usage.drafted_tokens
    assert found.total(names.VERIFY_ACCEPTED) == usage.accepted_tokens
    assert found.total(names.VERIFY_DRAFT_LENGTH) == usage.drafted_tokens
    assert found.by(names.VERIFY_TOKENS, names.TOKEN_SOURCE) == {
        "draft": stats.draft_tokens,
        "verifier": stats.verifier_tokens,
    }
    assert found.total(names.VERIFY_SAVED) == usage.completion_tokens - stats.passes
    for name, counts in (
        (names.VERIFY_JUDGED_AT, stats.judged_by_position),
        (names.VERIFY_ACCEPTED_AT, stats.accepted_by_position),
    ):
        by_position = found.by(name, names.DRAFT_POSITION)
        assert [by_position[str(index + 1)] for index in range(len(counts))] == list(counts)


async def test_times_agree_with_the_answers_own_account(answer: Answered) -> None:
    stats, found = answer.finished.stats, metered()
    for part, told in (("draft", stats.draft_time), ("verify", stats.verify_time), ("wait", stats.wait_time)):
        measured = found.total(names.VERIFY_PART_DURATION, **{names.PART: part})
        assert measured == pytest.approx(told.ToNanoseconds() / 1e9, rel=0.01, abs=1e-4)
    assert stats.verify_time.ToNanoseconds() > 0


async def test_the_span_has_every_round(answer: Answered, spans: InMemorySpanExporter) -> None:
    finished = answer.finished
    span, (usage,) = of_model(spans), finished.usage
    assert len(rounds(span, names.ROUND_METHODS)) == finished.rounds
    assert sum(rounds(span, names.ROUND_DRAFTED)) == usage.drafted_tokens
    assert sum(rounds(span, names.ROUND_ACCEPTED)) == usage.accepted_tokens
    assert all(taken > 0 for taken in rounds(span, names.ROUND_VERIFY_US))
    attributes = dict(span.attributes or {})
    assert attributes[names.PASSES] == finished.stats.passes
    assert attributes[names.ACCEPTED_BY_POSITION] == tuple(finished.stats.accepted_by_position)


async def test_no_span_has_a_word_of_prompt_or_answer(answer: Answered, spans: InMemorySpanExporter) -> None:
    told = " ".join(span.to_json() for span in spans.get_finished_spans())
    assert names.ROUNDS_EVENT in told
    words = {word for word in f"{QUESTION} {answer.text}".split() if len(word) > 5}
    assert len(words) > 3
    assert not [word for word in words if word in told]


@pytest.mark.usefixtures("spans")
async def test_a_handover_is_counted_by_its_code_and_source(bench: Bench, own: list[int]) -> None:
    bench.drafter.script(drafts(own, wrong_every=1))
    metered()
    told = await bench.generate(prompt(QUESTION), **ESCALATING)
    (handoff,), found = told.handoffs, metered()
    assert found.by(names.VERIFY_ESCALATIONS, names.REASON) == {handoff.reason.code: 1}
    by_source = found.by(names.VERIFY_TOKENS, names.TOKEN_SOURCE)
    assert by_source.get("frontier", 0) == told.finished.stats.frontier_tokens


async def test_a_cancelled_answer_leaves_its_rounds_on_the_span(
    bench: Bench, own: list[int], spans: InMemorySpanExporter
) -> None:
    bench.drafter.script(drafts(own, wrong_every=3), hold_at=2)
    request = verifier_pb2.GenerateVerifiedRequest(prompt=prompt(QUESTION))
    async with stream_from(bench.stub.GenerateVerified, request) as responses:
        await anext(responses)
        await bench.drafter.holding.wait()
    await bench.drafter.closed.wait()
    assert (await bench.alone(prompt("Hi.", max_tokens=1))).ids
    cancelled, _ = (span for span in spans.get_finished_spans() if span.name.startswith("chat "))
    assert rounds(cancelled, names.ROUND_ACCEPTED)


@pytest.mark.usefixtures("spans")
async def test_verdicts_for_others_are_counted_with_the_drafters_method(
    bench: Bench, own: list[int], embedded_model: Path
) -> None:
    sha256 = load_codec(embedded_model).sha256
    start = verifier_pb2.VerifyStart(prompt=prompt(QUESTION), tokenizer_sha256=sha256)
    chunk = slm_worker_pb2.DraftChunk(
        tokens=[types_pb2.Token(id=token) for token in own[:3]], method=slm_worker_pb2.DRAFT_METHOD_LOOKUP
    )
    chunk.draft_time.FromMilliseconds(-5)
    metered()
    async with bidi(bench.stub.Verify) as call:
        await call.write(verifier_pb2.VerifyRequest(start=start))
        await call.write(verifier_pb2.VerifyRequest(draft=chunk))
        verdict = await call.read()
    assert verdict is not None
    assert verdict.accepted == 3
    found = metered()
    assert found.by(names.VERIFY_ACCEPTED, names.DRAFT_METHOD) == {"lookup": 3}
    assert found.count(names.VERIFY_PART_DURATION, **{names.PART: "verify"}) == 1
    assert found.count(names.VERIFY_PART_DURATION, **{names.PART: "draft"}) == 0  # no time is negative
