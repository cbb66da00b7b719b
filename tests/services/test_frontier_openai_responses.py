"""The provider of OpenAI's Responses API on the wire: requests and events against OpenAI's own schemas."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import grpc
import pytest
from jsonschema import Draft202012Validator

from tests.services.provider_calls import CONSTRAINED, KEY, QUESTION, Caller, caller
from tests.services.provider_doubles import (
    ANSWER,
    DATA,
    RECORDED,
    ProviderDouble,
    Proxy,
    Reply,
    ask,
    configured,
    openai_chunks,
    proxy,
)
from weir.common.config import Settings
from weir.common.errors import ErrorCode
from weir.common.errors.grpc import from_rpc_error
from weir.engines.base import ChatMessage, Constraint, FinishReason, Sampling
from weir.frontier_proxy.domain import TokenCounts, to_usd
from weir.frontier_proxy.estimates import prompt_bound
from weir.frontier_proxy.prices import load_prices
from weir.frontier_proxy.providers.base import ProviderRequest
from weir.v1 import types_pb2

SCHEMAS = json.loads((DATA / "openai_responses_schema.json").read_text(encoding="utf-8"))
WHERE = {"sequence_number": 9, "item_id": "msg_1", "output_index": 0, "content_index": 0}
# The name of an event's schema, where it is not the type's.
SCHEMA_NAMES = {
    "response.output_text.delta": "ResponseTextDeltaEvent",
    "response.output_text.done": "ResponseTextDoneEvent",
    "error": "ResponseErrorEvent",
}


def check(name: str, value: object) -> None:
    Draft202012Validator({**SCHEMAS, "$ref": f"#/components/schemas/{name}"}).validate(value)


def check_event(content: dict[str, Any]) -> None:
    kind = content["type"]
    named = "".join(word.capitalize() for word in kind.replace("_", ".").split(".")) + "Event"
    check(SCHEMA_NAMES.get(kind, named), content)


def event(kind: str, **fields: Any) -> bytes:
    """An event that the API description knows."""
    content = {"type": kind, **fields}
    check_event(content)
    return f"event: {kind}\ndata: {json.dumps(content)}\n\n".encode()


def recorded() -> list[dict[str, Any]]:
    lines = RECORDED["openai_responses"].decode().splitlines()
    return [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]


def ending(status: str, **fields: Any) -> bytes:
    """The recorded stream's last event with another end."""
    response = {**recorded()[-1]["response"], "status": status, **fields}
    return event(f"response.{status}", sequence_number=10, response=response)


def text(delta: str) -> bytes:
    return event("response.output_text.delta", delta=delta, logprobs=[], **WHERE)


@pytest.fixture
async def responses() -> AsyncIterator[Caller]:
    async with caller("openai_responses") as called:
        yield called


@pytest.fixture
async def server() -> AsyncIterator[ProviderDouble]:
    async with ProviderDouble().running() as double:
        yield double


@pytest.fixture
async def running(
    server: ProviderDouble, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Proxy]:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    providers = {"openai": {"kind": "openai_responses", "base_url": server.url}}
    tiers = {"frontier": {"model_id": "gpt-4.1"}}
    async with proxy(configured(settings, frontier={"providers": providers}, tiers=tiers)) as running:
        yield running


@pytest.mark.parametrize(
    "constraint",
    [None, Constraint("choices", ("yes", "no")), Constraint("json_schema", ('{"type": "object"}',))],
)
async def test_every_request_is_valid_by_openais_own_description(
    responses: Caller, constraint: Constraint | None
) -> None:
    responses.server.will(Reply([RECORDED["openai_responses"]]))
    turns = (ChatMessage("system", "Be brief."), *QUESTION.messages, ChatMessage("assistant", "A dam."))
    sampling = Sampling(max_tokens=50, temperature=0.5, top_p=0.25, top_k=7, seed=2**64 - 1, stop=("END",))
    request = replace(
        QUESTION, messages=(*turns, ChatMessage("user", "More.")), sampling=sampling, constraint=constraint
    )
    await responses.call(request)
    (body,) = responses.server.bodies
    check("CreateResponse", body)
    assert responses.server.paths == ["/v1/responses"]
    assert responses.server.headers[0]["Authorization"] == f"Bearer {KEY}"
    wanted = {"model", "input", "stream", "store", "max_output_tokens", "temperature", "top_p"}
    assert set(body) == wanted | ({"text"} if constraint else set())
    assert [turn["role"] for turn in body["input"]] == ["system", "user", "assistant", "user"]


async def test_nothing_is_stored_and_what_is_absent_stays_absent(responses: Caller) -> None:
    responses.server.will(Reply([RECORDED["openai_responses"]]))
    await responses.call(replace(QUESTION, sampling=Sampling()))
    (body,) = responses.server.bodies
    assert body == {
        "model": "model",
        "input": [{"role": "user", "content": "What is a weir?"}],
        "stream": True,
        "store": False,
    }


def test_the_recorded_stream_is_valid_by_openais_own_description() -> None:
    for content in recorded():
        check_event(content)


async def test_the_answer_its_usage_and_its_price_come_from_the_stream(
    server: ProviderDouble, running: Proxy
) -> None:
    server.will(Reply([RECORDED["openai_responses"]]))
    answer, finished = await running.forward(ask())
    assert answer == ANSWER
    (usage,) = finished.usage
    assert finished.finish_reason == types_pb2.FINISH_REASON_STOP
    assert (usage.prompt_tokens, usage.cached_prompt_tokens, usage.completion_tokens) == (25, 8, 14)
    assert (usage.cache_write_tokens, usage.reasoning_tokens) == (5, 4)
    assert usage.cost_usd == pytest.approx((17 * 2 + 8 * 0.5 + 14 * 8) / 1e6, abs=1e-12)


async def test_choices_travel_as_a_strict_format_and_come_back_as_the_choice(
    server: ProviderDouble, running: Proxy
) -> None:
    server.will(Reply([text('{"cho'), text('ice":"no"}'), ending("completed")]))
    request = ask()
    request.prompt.output.choices.choice.extend(["yes", "no"])
    answer, _ = await running.forward(request)
    assert answer == "no"
    form = server.bodies[0]["text"]["format"]
    assert (form["type"], form["strict"]) == ("json_schema", True)
    assert form["schema"]["properties"]["choice"]["enum"] == ["yes", "no"]


async def test_stop_strings_are_applied_here_since_the_api_has_none(
    server: ProviderDouble, running: Proxy
) -> None:
    reply = server.will(Reply([text("one ST"), text("OP two")], hold=True))
    request = ask()
    request.prompt.sampling.stop.append("STOP")
    answer, finished = await running.forward(request)
    assert answer == "one "
    assert finished.finish_reason == types_pb2.FINISH_REASON_STOP
    await reply.disconnected.wait()


async def test_a_length_that_the_api_does_not_take_is_not_sent_and_names_the_least(
    server: ProviderDouble, running: Proxy
) -> None:
    request = ask()
    request.prompt.sampling.max_tokens = 15
    with pytest.raises(grpc.aio.AioRpcError, match="less than 16") as caught:
        await running.forward(request)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert not server.bodies


async def test_a_cost_limit_that_pays_for_less_than_the_least_length_is_told_as_such(
    server: ProviderDouble, running: Proxy
) -> None:
    asked = ProviderRequest("", (ChatMessage("user", "What is a weir?"),), Sampling())
    price = load_prices({})["gpt-4.1"]
    too_little, enough = (to_usd(price.bound(prompt_bound(asked), tokens)) for tokens in (15, 16))
    with pytest.raises(grpc.aio.AioRpcError, match="shortest answer, 16 tokens, may cost") as caught:
        await running.forward(ask("What is a weir?", max_cost_usd=too_little))
    assert from_rpc_error(caught.value).code is ErrorCode.COST_LIMIT
    assert not server.bodies
    server.will(Reply([text("A dam"), ending("completed")]))
    await running.forward(ask("What is a weir?", max_cost_usd=enough))
    assert server.bodies[0]["max_output_tokens"] == 16


@pytest.fixture
def two_kinds(server: ProviderDouble, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A model of each of OpenAI's two protocols."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    providers = {
        "responses": {"kind": "openai_responses", "base_url": server.url, "models": ["gpt-4o"]},
        "chat": {"kind": "openai", "base_url": server.url, "models": ["gpt-4o-mini"]},
    }
    return configured(settings, frontier={"providers": providers})


async def test_a_model_that_takes_no_so_short_answer_is_passed_over_where_another_does(
    server: ProviderDouble, two_kinds: Settings
) -> None:
    server.will(Reply([RECORDED["openai"]]))
    request = ask()
    request.prompt.sampling.max_tokens = 15
    async with proxy(two_kinds) as running:
        _, finished = await running.forward(request)
    assert [usage.provider for usage in finished.usage] == ["chat"]


async def test_a_stream_with_less_left_than_a_model_takes_is_not_continued_by_it(
    server: ProviderDouble, two_kinds: Settings
) -> None:
    server.will(Reply(openai_chunks("A weir holds back water.", finish=None)))
    request = ask()
    request.prompt.sampling.max_tokens = 20
    tiers = {"frontier": {"model_id": "gpt-4o-mini", "provider": "chat"}}
    async with proxy(configured(two_kinds, tiers=tiers)) as running:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await running.forward(request)
    assert from_rpc_error(caught.value).code is ErrorCode.STREAM_BROKEN
    assert server.paths == ["/v1/chat/completions"]


async def test_a_length_cut_is_told(responses: Caller) -> None:
    cut = ending("incomplete", incomplete_details={"reason": "max_output_tokens"})
    responses.server.will(Reply([text("A dam"), cut]))
    came = await responses.call()
    assert (came.text, came.finish) == ("A dam", FinishReason.LENGTH)
    assert came.bill == TokenCounts(25, 14, 8, 5, 4)


async def test_a_refusal_is_the_answer_to_a_question_and_an_error_in_place_of_json(responses: Caller) -> None:
    refusal = [event("response.refusal.delta", delta="I will not.", **WHERE), ending("completed")]
    responses.server.will(Reply(refusal), Reply(refusal))
    said, refused = await responses.call(), await responses.call(CONSTRAINED)
    assert (said.text, said.finish) == ("I will not.", FinishReason.STOP)
    assert refused.error is not None
    assert (refused.error.code, refused.text) == (ErrorCode.PROVIDER_REJECTED, "")
    assert refused.bill == said.bill == TokenCounts(25, 14, 8, 5, 4)


@pytest.mark.parametrize(
    ("code", "named"),
    [
        ("server_error", ErrorCode.PROVIDER_FAILED),
        ("rate_limit_exceeded", ErrorCode.RATE_LIMITED),
        ("invalid_prompt", ErrorCode.PROVIDER_REJECTED),
    ],
)
async def test_a_failed_response_has_the_code_of_its_error_and_its_reported_bill(
    responses: Caller, code: str, named: ErrorCode
) -> None:
    responses.server.will(Reply([text("A"), ending("failed", error={"code": code, "message": "Sorry."})]))
    came = await responses.call()
    assert came.error is not None
    assert came.error.code is named
    assert "Sorry" not in str(came.error)
    assert came.bill == TokenCounts(25, 14, 8, 5, 4)


async def test_an_error_event_is_read_flat_as_the_description_has_it(responses: Caller) -> None:
    error = event("error", code="rate_limit_exceeded", message="Slow down.", param=None, sequence_number=1)
    responses.server.will(Reply([error]))
    came = await responses.call()
    assert came.error is not None
    assert came.error.code is ErrorCode.RATE_LIMITED


async def test_reasoning_that_came_before_a_break_is_paid(responses: Caller) -> None:
    thought = {"type": "response.reasoning_summary_text.delta", "delta": "It is a dam." * 4}
    responses.server.will(Reply([b"data: " + json.dumps(thought).encode() + b"\n\n"], cut=True))
    came = await responses.call()
    assert came.error is not None
    assert (came.text, came.bill.reasoning, came.bill.completion) == ("", 12, 12)


async def test_a_continued_answer_is_asked_for_in_words_and_its_repetition_is_cut(
    server: ProviderDouble, running: Proxy
) -> None:
    server.will(Reply([text("A weir holds "), text("the river"), text(" back."), ending("completed")]))
    answer, _ = await running.forward(ask(continue_from="A weir holds the river"))
    assert answer == " back."
    *_, assistant, instruction = server.bodies[0]["input"]
    assert assistant == {"role": "assistant", "content": "A weir holds the river"}
    assert instruction["role"] == "user"
