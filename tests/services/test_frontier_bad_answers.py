"""What no provider should send: each ends in the right error, and in a bill for what was used and no more."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from tests.services.provider_calls import CONSTRAINED, KEY, KINDS, QUESTION, Caller, caller
from tests.services.provider_doubles import ANSWER, RECORDED, Reply, error_reply, openai_chunks
from weir.common.errors import ErrorCode
from weir.common.sse import MAX_EVENT_BYTES
from weir.engines.base import ChatMessage, FinishReason
from weir.frontier_proxy.domain import TokenCounts
from weir.frontier_proxy.estimates import prompt_estimate, token_estimate

C = ErrorCode
NOTHING = TokenCounts()
PROMPT = prompt_estimate(QUESTION.messages, QUESTION.prefix, QUESTION.constraint)


@pytest.fixture(params=KINDS)
async def any_provider(request: pytest.FixtureRequest) -> AsyncIterator[Caller]:
    async with caller(request.param) as called:
        yield called


@pytest.fixture
async def openai() -> AsyncIterator[Caller]:
    async with caller("openai") as called:
        yield called


def events(kind: str) -> list[bytes]:
    """The recorded stream, event by event."""
    return [event + b"\n\n" for event in re.split(rb"\r?\n\r?\n", RECORDED[kind]) if event]


async def test_a_recorded_answer_is_read_with_all_its_classes_of_tokens(any_provider: Caller) -> None:
    any_provider.server.will(Reply([RECORDED[any_provider.kind]]))
    came = await any_provider.call()
    assert (came.text, came.finish, came.error) == (ANSWER, FinishReason.STOP, None)
    assert (came.bill.prompt, came.bill.cached, came.bill.completion) == (25, 8, 14)


async def test_trickled_bytes_change_nothing(any_provider: Caller) -> None:
    stream = RECORDED[any_provider.kind]
    any_provider.server.will(Reply([stream[at : at + 1] for at in range(len(stream))]))
    came = await any_provider.call()
    assert (came.text, came.error, came.bill.completion) == (ANSWER, None, 14)


@pytest.mark.parametrize(
    "event",
    [
        b"data: {\n\n",
        b"data: []\n\n",
        b'data: "text"\n\n',
        b"data: \xff\xfe\n\n",
        b"data: " + b"[" * 100_000 + b"\n\n",
        b"data: 1e999\n\n",
    ],
    ids=["cut", "list", "string", "no-utf8", "deep", "number"],
)
async def test_an_event_that_is_no_json_object_breaks_the_stream_and_the_prompt_is_paid(
    any_provider: Caller, event: bytes
) -> None:
    any_provider.server.will(Reply([event]))
    came = await any_provider.call()
    assert came.error is not None
    assert came.error.code is C.PROVIDER_FAILED
    assert came.bill == TokenCounts(prompt=PROMPT)


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("openai", {"choices": 5}),
        ("openai", {"choices": ["x"]}),
        ("openai", {"choices": [{"delta": {"content": 5}}]}),
        ("openai", {"choices": [{"delta": []}, {"delta": "x"}]}),
        ("openai_responses", {"type": "response.output_text.delta"}),
        ("openai_responses", {"type": "response.output_text.delta", "delta": {"text": "x"}}),
        ("openai_responses", {"type": "response.completed", "response": None}),
        ("openai_responses", {"type": "response.incomplete", "response": {"status": "incomplete"}}),
        ("anthropic", {"type": "content_block_delta"}),
        ("anthropic", {"type": "message_delta", "delta": None}),
        ("anthropic", {"type": "content_block_delta", "delta": {"text": ["x"]}}),
        ("gemini", {"candidates": [{"content": {"parts": ["x"]}}]}),
        ("gemini", {"candidates": {"content": 1}}),
        ("gemini", {"candidates": [{"finishReason": 3}]}),
    ],
)
async def test_json_of_another_shape_breaks_the_stream(kind: str, content: object) -> None:
    async with caller(kind) as called:
        called.server.will(Reply([b"data: " + json.dumps(content).encode() + b"\n\n"]))
        came = await called.call()
    assert came.error is not None
    assert came.error.code is C.PROVIDER_FAILED
    assert came.bill == TokenCounts(prompt=PROMPT)


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (b'{"choices": [{"delta": {"content": "A weir"}, "logprobs": [NaN, -Infinity, 1e999]}]}', "A weir"),
        (b'{"choices": [{"delta": {"content": "A \\ud83c weir"}}]}', "A ? weir"),
    ],
    ids=["no-number", "half-a-character"],
)
async def test_what_is_nearly_json_is_read(openai: Caller, event: bytes, text: str) -> None:
    openai.server.will(Reply([b"data: " + event + b"\n\n", *openai_chunks()]))
    came = await openai.call()
    assert (came.text, came.error, came.bill) == (text, None, TokenCounts(9, 3))


async def test_what_follows_the_end_is_not_read(openai: Caller) -> None:
    whole = b"".join([*openai_chunks("All of it."), b"data: {\n\n", *openai_chunks(" And more.")])
    openai.server.will(Reply([whole]))
    came = await openai.call()
    assert (came.text, came.error, came.bill) == ("All of it.", None, TokenCounts(9, 3))


async def test_the_prompt_arrives_as_json_whatever_its_characters(any_provider: Caller) -> None:
    any_provider.server.will(Reply([RECORDED[any_provider.kind]]))
    said = 'Was ist ein "Wehr"? \u6c34\U0001f30a \u2028\x7f\n\\u0041'
    await any_provider.call(replace(QUESTION, messages=(ChatMessage("user", said),)))
    assert any_provider.server.headers[0]["Content-Type"] == "application/json"
    assert said in _strings(any_provider.server.bodies[0])


def _strings(content: object) -> list[object]:
    """Every value in nested JSON."""
    if isinstance(content, dict):
        content = list(content.values())
    return [leaf for part in content for leaf in _strings(part)] if isinstance(content, list) else [content]


async def test_events_of_an_unknown_kind_are_passed_over(any_provider: Caller) -> None:
    unknown = b'event: tomorrow\ndata: {"type": "tomorrow", "text": "not for you"}\n\n'
    recorded = events(any_provider.kind)
    any_provider.server.will(Reply([unknown, recorded[0], unknown, *recorded[1:]]))
    came = await any_provider.call()
    assert (came.text, came.error, came.bill.completion) == (ANSWER, None, 14)


async def test_an_html_page_with_status_200_is_a_failure_that_costs_nothing(any_provider: Caller) -> None:
    page = Reply([b"<html><body>Sign in to the hotel</body></html>"], headers={"Content-Type": "text/html"})
    any_provider.server.will(page)
    came = await any_provider.call()
    assert came.error is not None
    assert came.error.code is C.PROVIDER_FAILED
    assert "text/html" in came.error.hint
    assert "hotel" not in str(came.error)
    assert came.bill == NOTHING


@pytest.mark.parametrize("content_type", ["text/plain", "application/octet-stream", "image/png", "x; y"])
async def test_any_other_type_of_content_is_a_failure_that_costs_nothing(
    openai: Caller, content_type: str
) -> None:
    openai.server.will(Reply(openai_chunks("hello"), headers={"Content-Type": content_type}))
    came = await openai.call()
    assert came.error is not None
    assert came.error.code is C.PROVIDER_FAILED
    assert (came.text, came.bill) == ("", NOTHING)


async def test_an_event_stream_is_known_by_its_type_whatever_its_case_and_charset(openai: Caller) -> None:
    kind = {"Content-Type": "Text/Event-Stream; Charset=UTF-8"}
    openai.server.will(Reply(openai_chunks("hello"), headers=kind))
    assert (await openai.call()).text == "hello"


async def test_an_error_in_json_with_status_200_is_named_and_costs_nothing(any_provider: Caller) -> None:
    error = {"error": {"type": "rate_limit_exceeded", "status": "RESOURCE_EXHAUSTED"}}
    any_provider.server.will(
        Reply([json.dumps(error).encode()], headers={"Content-Type": "application/json"})
    )
    came = await any_provider.call()
    assert came.error is not None
    assert came.error.code is C.RATE_LIMITED
    assert came.bill == NOTHING


async def test_a_server_that_does_not_stream_is_understood_and_paid(openai: Caller) -> None:
    answer = {
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "All."}, "finish_reason": "stop"}
        ],
        "usage": {"prompt_tokens": 9, "completion_tokens": 2},
    }
    openai.server.will(Reply([json.dumps(answer).encode()], headers={"Content-Type": "application/json"}))
    came = await openai.call()
    assert (came.text, came.finish, came.bill) == ("All.", FinishReason.STOP, TokenCounts(9, 2))


async def test_an_answer_without_usage_is_whole_and_its_bill_an_estimate(any_provider: Caller) -> None:
    stream = re.sub(b'"(usage|usageMetadata)"', b'"other"', RECORDED[any_provider.kind])
    assert b'"other"' in stream
    any_provider.server.will(Reply([stream]))
    came = await any_provider.call()
    assert (came.text, came.finish, came.error) == (ANSWER, FinishReason.STOP, None)
    assert (came.bill.prompt, came.bill.cached) == (PROMPT, 0)
    assert came.bill.completion >= token_estimate(ANSWER)


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": 0, "completion_tokens": 0},
        {"prompt_tokens": -9, "completion_tokens": 3},
        {"prompt_tokens": "9", "completion_tokens": "3"},
        {"prompt_tokens": 9, "completion_tokens": 0},
        {"prompt_tokens": True, "completion_tokens": 10**15},
        [],
        "none",
    ],
    ids=str,
)
async def test_counts_that_cannot_be_true_are_not_believed(openai: Caller, usage: object) -> None:
    last = b"data: " + json.dumps({"choices": [], "usage": usage}).encode() + b"\n\n"
    openai.server.will(Reply([*openai_chunks("A weir", usage=None)[:-1], last]))
    came = await openai.call()
    assert (came.text, came.error) == ("A weir", None)
    assert came.bill.completion == token_estimate("A weir")
    assert came.bill.prompt in (PROMPT, 9)


async def test_a_connection_lost_behind_the_last_word_loses_the_usage_alone(openai: Caller) -> None:
    openai.server.will(Reply(openai_chunks("All of it.", usage=None)[:-1], cut=True))
    came = await openai.call()
    assert (came.text, came.finish, came.error) == ("All of it.", FinishReason.STOP, None)
    assert came.bill == TokenCounts(PROMPT, token_estimate("All of it."))


async def test_a_stream_that_is_cut_before_its_end_is_a_failure_and_what_came_is_paid(
    any_provider: Caller,
) -> None:
    whole = events(any_provider.kind)
    half = whole[: next(at for at, event in enumerate(whole) if " hält".encode() in event) + 1]
    any_provider.server.will(Reply(half, cut=True))
    came = await any_provider.call()
    assert came.error is not None
    assert came.error.code is C.PROVIDER_FAILED
    assert came.text.startswith("Ein Wehr hält")
    assert came.bill.prompt > 0
    assert came.bill.completion >= token_estimate(came.text)


async def test_a_silent_200_pays_for_the_prompt(any_provider: Caller) -> None:
    reply = any_provider.server.will(Reply([b": nothing yet\n\n"], hold=True))
    came = await any_provider.call(only_accepted=True)
    assert (came.text, came.finish, came.error) == ("", None, None)
    assert came.bill == TokenCounts(prompt=PROMPT)
    await reply.disconnected.wait()


async def test_an_event_without_end_is_cut_off_at_its_bound(openai: Caller) -> None:
    piece = b"x" * 2**20
    pieces = [b"data: ", *[piece] * (10 * 2**20 // len(piece)), b"\n\n"]
    openai.server.will(Reply(pieces))
    came = await openai.call()
    assert len(piece) * 10 > MAX_EVENT_BYTES
    assert came.error is not None
    assert came.error.code is C.PROVIDER_FAILED
    assert came.bill == TokenCounts(prompt=PROMPT)


async def test_a_whole_answer_past_the_bound_is_a_failure(openai: Caller) -> None:
    body = b'{"choices": [], "x": "' + b"x" * MAX_EVENT_BYTES + b'"}'
    openai.server.will(Reply([body], headers={"Content-Type": "application/json"}))
    came = await openai.call()
    assert came.error is not None
    assert came.error.code is C.PROVIDER_FAILED


async def test_a_redirect_is_not_followed(any_provider: Caller) -> None:
    elsewhere = {"Location": f"{any_provider.server.url}/elsewhere"}
    any_provider.server.will(Reply([], status=307, headers=elsewhere))
    came = await any_provider.call()
    assert came.error is not None
    assert came.error.code is C.PROVIDER_FAILED
    assert "307" in came.error.hint
    assert len(any_provider.server.paths) == 1
    assert came.bill == NOTHING


@pytest.mark.parametrize(
    ("kind", "status", "error"),
    [
        ("openai", 401, {"type": "invalid_request_error", "code": "invalid_api_key"}),
        ("openai_responses", 401, {"type": "invalid_request_error", "code": "invalid_api_key"}),
        ("openai", 429, {"type": "insufficient_quota", "code": "insufficient_quota"}),
        ("anthropic", 401, {"type": "authentication_error"}),
        ("anthropic", 402, {"type": "billing_error"}),
        (
            "gemini",
            400,
            {
                "code": 400,
                "status": "INVALID_ARGUMENT",
                "details": [
                    {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}
                ],
            },
        ),
    ],
)
async def test_an_expired_key_is_told_as_one_and_is_in_no_error(
    kind: str, status: int, error: dict[str, object]
) -> None:
    async with caller(kind) as called:
        called.server.will(error_reply(status, {**error, "param": KEY, "message": f"Expired: {KEY}"}))
        came = await called.call()
    assert came.error is not None
    assert came.error.code is C.PROVIDER_AUTH
    assert KEY not in str(came.error) + str(came.error.metadata)
    assert came.bill == NOTHING


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ({"type": "overloaded_error"}, C.PROVIDER_FAILED),
        ({"type": "rate_limit_error"}, C.RATE_LIMITED),
        ({"type": "authentication_error"}, C.PROVIDER_AUTH),
        ({"code": 429}, C.RATE_LIMITED),
        ({"code": 418}, C.PROVIDER_REJECTED),
        ({"code": "context_length_exceeded"}, C.PROVIDER_REJECTED),
        ({"type": "a type of tomorrow"}, C.PROVIDER_FAILED),
        ("a sentence", C.PROVIDER_FAILED),
    ],
    ids=str,
)
async def test_an_error_inside_the_stream_has_the_code_of_its_kind(
    any_provider: Caller, error: object, code: ErrorCode
) -> None:
    event = {"type": "error", "error": error}
    any_provider.server.will(Reply([b"data: " + json.dumps(event).encode() + b"\n\n"]))
    came = await any_provider.call()
    assert came.error is not None
    assert came.error.code is code


async def test_an_error_page_that_comes_in_pieces_is_read_whole(openai: Caller) -> None:
    body = json.dumps({"error": {"type": "insufficient_quota"}}).encode()
    openai.server.will(Reply([body[at : at + 1] for at in range(len(body))], status=429))
    came = await openai.call()
    assert came.error is not None
    assert came.error.code is C.PROVIDER_AUTH


async def test_an_answer_refused_in_place_of_json_is_an_error_with_the_reported_bill(openai: Caller) -> None:
    chunks = [
        {"choices": [{"index": 0, "delta": {"refusal": "I cannot help with that."}}]},
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
        {"choices": [], "usage": {"prompt_tokens": 40, "completion_tokens": 5}},
    ]
    stream = [b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks]
    openai.server.will(Reply([*stream, b"data: [DONE]\n\n"]), Reply([*stream, b"data: [DONE]\n\n"]))
    refused, said = await openai.call(CONSTRAINED), await openai.call()
    assert refused.error is not None
    assert (refused.error.code, refused.text) == (C.PROVIDER_REJECTED, "")
    assert refused.bill == said.bill == TokenCounts(40, 5)
    assert said.text == "I cannot help with that."


@pytest.mark.parametrize("reason", ["abort", "error", "insufficient_system_resource"])
async def test_an_answer_that_a_server_interrupted_is_a_failure_with_the_reported_bill(
    openai: Caller, reason: str
) -> None:
    openai.server.will(Reply(openai_chunks("A dam", finish=reason)))
    came = await openai.call()
    assert came.error is not None
    assert (came.text, came.error.code) == ("A dam", C.PROVIDER_FAILED)
    assert came.bill == TokenCounts(9, 3)


FILTERED = {
    "openai": (b'"finish_reason":"stop"', b'"finish_reason":"content_filter"'),
    "openai_responses": (
        b'"status":"completed","error":null,"incomplete_details":null',
        b'"status":"incomplete","error":null,"incomplete_details":{"reason":"content_filter"}',
    ),
    "anthropic": (b'"end_turn"', b'"refusal"'),
    "gemini": (b'"STOP"', b'"SAFETY"'),
}


async def test_an_answer_that_a_filter_ended_is_rejected_with_the_reported_bill(any_provider: Caller) -> None:
    before, after = FILTERED[any_provider.kind]
    stream = RECORDED[any_provider.kind]
    assert before in stream
    any_provider.server.will(Reply([stream.replace(before, after)]))
    came = await any_provider.call()
    assert came.error is not None
    assert came.error.code is C.PROVIDER_REJECTED
    assert (came.bill.prompt, came.bill.completion) == (25, 14)


async def test_one_connection_serves_answers_in_turn(any_provider: Caller) -> None:
    any_provider.server.will(*(Reply([RECORDED[any_provider.kind]]) for _ in range(3)))
    for _ in range(3):
        await any_provider.call()
    assert len(set(any_provider.server.peers)) == 1


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
# What is sent on the wire, and whether the answer counts as accepted.
BROKEN_HTTP = {
    "no HTTP": (b"hello there\r\n\r\n", False),
    "nothing": (b"", False),
    "endless header": (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n", False),
    "two lengths": (HEAD + b"Content-Length: 10\r\nContent-Length: 20\r\n\r\n", False),
    "less than its length": (HEAD + b"Content-Length: 100\r\n\r\ndata: x", True),
    "no gzip": (HEAD + b"Content-Encoding: gzip\r\nContent-Length: 20\r\n\r\n" + b"x" * 20, True),
    "gzip of 10 MB": (HEAD + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(b"x" * 10**7), True),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", False),
}


@pytest.mark.parametrize("name", BROKEN_HTTP)
async def test_broken_http_is_a_failure_of_the_provider(name: str) -> None:
    sent, accepted = BROKEN_HTTP[name]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(sent)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with caller("openai", f"http://127.0.0.1:{port}") as called:
            came = await called.call()
    assert came.error is not None
    assert came.error.code is C.PROVIDER_FAILED
    assert came.bill == TokenCounts(prompt=PROMPT if accepted else 0)
