"""Score, Check and Verify on the real model: values, verdicts, and what a broken protocol gets."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.services.verifier_bench import Bench, prompt, verifier_bench
from weir.common.calls import bidi, unary
from weir.common.errors import ErrorCode, WeirError
from weir.engines.core.engine import CoreEngine
from weir.engines.text.codec import Codec, load_codec
from weir.v1 import slm_worker_pb2, types_pb2, verifier_pb2


@pytest.fixture(scope="module")
def codec(embedded_model: Path) -> Codec:
    return load_codec(embedded_model)


@pytest.fixture(scope="module")
async def bench(codec: Codec, verifier_engine: CoreEngine) -> AsyncIterator[Bench]:
    async with verifier_bench(codec.sha256, engine=verifier_engine) as bench:
        yield bench


async def score(bench: Bench, continuation: str, **fields: Any) -> verifier_pb2.ScoreResponse:
    asked = prompt("What is the capital of France? Answer with one word.")
    request = verifier_pb2.ScoreRequest(prompt=asked, continuation=continuation, **fields)
    response: verifier_pb2.ScoreResponse = await unary(bench.stub.Score, request)
    return response


async def test_the_right_continuation_scores_higher(bench: Bench) -> None:
    paris, berlin = await score(bench, "Paris."), await score(bench, "Berlin.")
    assert paris.mean_logprob > berlin.mean_logprob
    assert paris.min_logprob > berlin.min_logprob


async def test_a_score_lists_every_token_with_its_alternatives(bench: Bench, codec: Codec) -> None:
    text = "The capital of France is Paris."
    scored = await score(bench, text, top_logprobs=3)
    logprobs = [token.logprob for token in scored.tokens]
    assert [token.id for token in scored.tokens] == codec.encode(text)
    assert scored.mean_logprob == pytest.approx(sum(logprobs) / len(logprobs), rel=1e-5)
    assert scored.min_logprob == pytest.approx(min(logprobs))
    for token in scored.tokens:
        alternatives = [candidate.logprob for candidate in token.top]
        assert alternatives == sorted(alternatives, reverse=True)
        assert len(alternatives) == 3
        assert token.logprob <= alternatives[0] + 1e-6


async def test_without_alternatives_asked_none_are_listed(bench: Bench) -> None:
    assert not any(token.top for token in (await score(bench, "Paris")).tokens)


@pytest.mark.parametrize(
    ("continuation", "fields", "code"),
    [
        ("", {}, ErrorCode.INVALID_REQUEST),
        ("Paris", {"top_logprobs": 1000}, ErrorCode.INVALID_REQUEST),
        ("word " * 9000, {}, ErrorCode.CONTEXT_TOO_LONG),
        ("x" * 300_000, {}, ErrorCode.INVALID_REQUEST),
    ],
    ids=["empty", "too many candidates", "past the context", "too large"],
)
async def test_what_cannot_be_scored_is_refused(
    bench: Bench, continuation: str, fields: dict[str, Any], code: ErrorCode
) -> None:
    with pytest.raises(WeirError) as refused:
        await score(bench, continuation, **fields)
    assert refused.value.code is code


async def check(
    bench: Bench, answer: str, sources: Sequence[str] = (), **output: Any
) -> verifier_pb2.CheckResponse:
    asked = types_pb2.Prompt(output=types_pb2.OutputConstraint(**output))
    request = verifier_pb2.CheckRequest(prompt=asked, answer=answer, sources=sources)
    response: verifier_pb2.CheckResponse = await unary(bench.stub.Check, request)
    return response


async def test_check_says_where_a_schema_is_broken(bench: Bench) -> None:
    schema = '{"properties": {"age": {"type": "integer"}}}'
    good, bad = '{"age": 3}', '{"age": "three"}'
    assert (await check(bench, good, json_schema=schema)).valid
    verdict = await check(bench, bad, json_schema=schema)
    assert not verdict.valid
    assert verdict.violation == "$.age: 'three' is not of type 'integer'"
    assert not verdict.HasField("grounded")


async def test_check_knows_regexes_choices_and_grammars(bench: Bench) -> None:
    assert (await check(bench, "12", regex=r"\d+")).valid
    assert not (await check(bench, "12a", regex=r"\d+")).valid
    choices = types_pb2.Choices(choice=["yes", "no"])
    assert (await check(bench, "no", choices=choices)).valid
    assert not (await check(bench, "No", choices=choices)).valid
    assert (await check(bench, "aab", grammar='root ::= "a"+ "b"')).valid
    assert not (await check(bench, "aa", grammar='root ::= "a"+ "b"')).valid


async def test_check_refuses_a_schema_that_refers_elsewhere(bench: Bench) -> None:
    with pytest.raises(WeirError) as refused:
        await check(bench, "1", json_schema='{"$ref": "https://example.com/schema.json"}')
    assert refused.value.code is ErrorCode.INVALID_CONSTRAINT
    assert "not inside it" in refused.value.hint


async def test_an_answer_is_more_grounded_in_the_source_that_says_it(bench: Bench) -> None:
    source = ["The harbour bridge, 503 metres long, was opened in 1932."]
    faithful = await check(bench, "The bridge was opened in 1932 and is 503 metres long.", source)
    invented = await check(bench, "The bridge was opened in 1987 and is 120 metres long.", source)
    unrelated = await check(bench, "Cats sleep most of the day.", source)
    assert 1 >= faithful.grounded > invented.grounded > unrelated.grounded >= 0


def start(codec: Codec, **fields: Any) -> verifier_pb2.VerifyRequest:
    values = {"prompt": prompt(), "tokenizer_sha256": codec.sha256, **fields}
    return verifier_pb2.VerifyRequest(start=verifier_pb2.VerifyStart(**values))


def chunk(sequence: int, ids: Sequence[int], sha256: str = "") -> verifier_pb2.VerifyRequest:
    tokens = [types_pb2.Token(id=token) for token in ids]
    return verifier_pb2.VerifyRequest(
        draft=slm_worker_pb2.DraftChunk(sequence=sequence, tokens=tokens, tokenizer_sha256=sha256)
    )


async def verdicts(bench: Bench, *requests: verifier_pb2.VerifyRequest) -> list[verifier_pb2.VerifyResponse]:
    """Send the requests one by one and return the last verdicts; a start gets none."""
    received: list[verifier_pb2.VerifyResponse] = []
    async with bidi(bench.stub.Verify) as call:
        for request in requests:
            await call.write(request)
            if request.HasField("draft"):
                verdict = await call.read()
                assert verdict is not None
                received.append(verdict)
        await call.done_writing()
        assert await call.read() is None
    return received


async def test_verify_judges_chunk_by_chunk(bench: Bench, codec: Codec) -> None:
    asked = prompt("Name three uses of salt.")
    alone = (await bench.alone(asked)).ids
    wrong = [*alone[4:6], alone[6] + 1, alone[7]]
    whole, partly, after = await verdicts(
        bench, start(codec, prompt=asked), chunk(0, alone[:4]), chunk(1, wrong), chunk(2, alone[7:9])
    )
    assert (whole.sequence, whole.accepted, whole.HasField("correction")) == (0, 4, False)
    assert (partly.sequence, partly.accepted, partly.correction.id) == (1, 2, alone[6])
    assert (after.sequence, after.accepted) == (2, 2)
    assert len(partly.logprobs) == 4
    assert all(math.isfinite(value) and value <= 0 for value in partly.logprobs)
    assert partly.logprobs[2] < partly.correction.logprob
    assert whole.forward_time.ToNanoseconds() > 0


async def test_verify_applies_a_threshold(bench: Bench, codec: Codec) -> None:
    alone = (await bench.alone(prompt())).ids
    acceptance = verifier_pb2.Acceptance(threshold=verifier_pb2.Threshold(min_probability=0.0))
    (verdict,) = await verdicts(bench, start(codec, acceptance=acceptance), chunk(0, [alone[0], 1234]))
    assert verdict.accepted == 2


async def test_verify_keeps_the_constraint(bench: Bench, codec: Codec) -> None:
    asked = prompt()
    asked.output.choices.choice.extend(["Paris", "Berlin"])
    (verdict,) = await verdicts(bench, start(codec, prompt=asked), chunk(0, codec.encode("London")))
    assert verdict.accepted == 0
    assert codec.token_bytes(verdict.correction.id)[:1] in {b"P", b"B"}
    assert verdict.logprobs[0] == -math.inf


@pytest.mark.parametrize(
    ("broken", "code"),
    [
        (lambda codec: [chunk(0, [1])], ErrorCode.INVALID_REQUEST),
        (lambda codec: [start(codec), start(codec)], ErrorCode.INVALID_REQUEST),
        (lambda codec: [start(codec), chunk(0, [1]), chunk(2, [1])], ErrorCode.INVALID_REQUEST),
        (lambda codec: [start(codec), chunk(0, [])], ErrorCode.INVALID_REQUEST),
        (lambda codec: [start(codec), chunk(0, [10_000_000])], ErrorCode.INVALID_REQUEST),
        (lambda codec: [start(codec), chunk(0, [1] * 300)], ErrorCode.INVALID_REQUEST),
        (lambda codec: [verifier_pb2.VerifyRequest()], ErrorCode.INVALID_REQUEST),
        (lambda codec: [start(codec, tokenizer_sha256="0" * 64)], ErrorCode.TOKENIZER_MISMATCH),
        (lambda codec: [start(codec), chunk(0, [1], "0" * 64)], ErrorCode.TOKENIZER_MISMATCH),
        (lambda codec: [start(codec, prompt=prompt("word " * 9000))], ErrorCode.CONTEXT_TOO_LONG),
    ],
    ids=[
        "draft first",
        "two starts",
        "a gap",
        "no tokens",
        "an unknown id",
        "a huge chunk",
        "an empty request",
        "another tokenizer",
        "another tokenizer in a chunk",
        "a prompt past the context",
    ],
)
async def test_a_broken_verify_protocol_is_refused(
    bench: Bench, codec: Codec, broken: Any, code: ErrorCode
) -> None:
    with pytest.raises(WeirError) as refused:
        async with bidi(bench.stub.Verify) as call:
            for request in broken(codec):
                await call.write(request)
            await call.done_writing()
            while await call.read() is not None:
                pass
    assert refused.value.code is code


async def test_a_verify_stream_without_a_start_that_ends_is_no_error(bench: Bench) -> None:
    async with bidi(bench.stub.Verify) as call:
        await call.done_writing()
        assert await call.read() is None


async def test_nothing_can_be_drafted_after_the_end(bench: Bench, codec: Codec) -> None:
    (stop_id,) = list(codec.stop_ids)[:1]
    acceptance = verifier_pb2.Acceptance(threshold=verifier_pb2.Threshold(min_probability=0.0))
    with pytest.raises(WeirError) as refused:
        await verdicts(bench, start(codec, acceptance=acceptance), chunk(0, [stop_id]), chunk(1, [1]))
    assert refused.value.code is ErrorCode.INVALID_REQUEST
    assert "ended" in refused.value.hint
