"""The OpenAI provider on the wire: requests against OpenAI's own schemas, answers from its event streams."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import grpc
import pytest
from jsonschema import Draft202012Validator

from tests.metering import metered
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
from weir.common import conventions as names
from weir.common.config import Settings
from weir.common.config.frontier import CircuitBreaker
from weir.common.errors import ErrorCode
from weir.common.errors.grpc import from_rpc_error
from weir.v1 import frontier_proxy_pb2 as pb
from weir.v1 import types_pb2

KEY = "sk-double-0123456789abcdefghij"
SCHEMAS = json.loads((DATA / "openai_chat_schema.json").read_text(encoding="utf-8"))


def validator(name: str) -> Draft202012Validator:
    return Draft202012Validator({**SCHEMAS, "$ref": f"#/components/schemas/{name}"})


def documented(name: str) -> set[str]:
    """The members that a schema of the API description knows, through ``allOf`` and ``$ref``."""
    schema: dict[str, Any] = SCHEMAS["components"]["schemas"][name]
    parts = [schema, *schema.get("allOf", ())]
    known = {member for part in parts for member in part.get("properties", ())}
    for part in parts:
        if "$ref" in part:
            known |= documented(part["$ref"].rsplit("/", 1)[1])
    return known


@pytest.fixture
async def openai() -> AsyncIterator[ProviderDouble]:
    async with ProviderDouble().running() as double:
        yield double


@pytest.fixture
async def running(
    openai: ProviderDouble, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Proxy]:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    providers = {"openai": {"kind": "openai", "base_url": openai.url}}
    async with proxy(configured(settings, frontier={"providers": providers})) as running:
        yield running


def full_request() -> Any:
    request = ask("Name a river.")
    request.prompt.messages.insert(0, types_pb2.Message(role=types_pb2.ROLE_SYSTEM, content="Be brief."))
    request.prompt.messages.append(types_pb2.Message(role=types_pb2.ROLE_ASSISTANT, content="Elbe."))
    request.prompt.messages.append(types_pb2.Message(role=types_pb2.ROLE_USER, content="Another."))
    request.prompt.sampling.MergeFrom(
        types_pb2.SamplingParams(
            max_tokens=50, temperature=0.5, top_p=0.25, top_k=7, seed=2**64 - 1, stop=["\n", "END"]
        )
    )
    return request


@pytest.mark.parametrize("constrained", [False, True])
async def test_every_request_is_valid_by_openais_own_description(
    openai: ProviderDouble, running: Proxy, constrained: bool
) -> None:
    openai.will(Reply([RECORDED["openai"]]))
    request = full_request()
    if constrained:
        request.prompt.output.json_schema = '{"type": "object", "properties": {"river": {"type": "string"}}}'
    await running.forward(request)
    (body,) = openai.bodies
    validator("CreateChatCompletionRequest").validate(body)
    assert set(body) <= documented("CreateChatCompletionRequest")


def test_the_recorded_stream_is_valid_by_openais_own_description() -> None:
    lines = RECORDED["openai"].decode().splitlines()
    events = [line.removeprefix("data: ") for line in lines if line and not line.endswith("[DONE]")]
    for event in events:
        # All chunks but the last carry a null here: the description says so in prose, its schema does not.
        chunk = {name: value for name, value in json.loads(event).items() if (name, value) != ("usage", None)}
        validator("CreateChatCompletionStreamResponse").validate(chunk)


async def test_the_answer_its_usage_and_its_price_come_from_the_stream(
    openai: ProviderDouble, running: Proxy
) -> None:
    openai.will(Reply([RECORDED["openai"]]))
    text, finished = await running.forward(ask())
    assert text == ANSWER
    (usage,) = finished.usage
    assert finished.finish_reason == types_pb2.FINISH_REASON_STOP
    assert (usage.prompt_tokens, usage.cached_prompt_tokens, usage.completion_tokens) == (25, 8, 14)
    assert usage.cost_usd == pytest.approx((17 * 2.5 + 8 * 1.25 + 14 * 10) / 1e6, abs=1e-12)
    assert usage.tier == types_pb2.TIER_FRONTIER
    assert not usage.stand_in


async def test_sampling_is_mapped_and_what_is_absent_stays_absent(
    openai: ProviderDouble, running: Proxy
) -> None:
    openai.will(Reply([RECORDED["openai"]]), Reply([RECORDED["openai"]]))
    await running.forward(full_request())
    await running.forward(ask())
    stated, bare = openai.bodies
    assert stated["temperature"] == 0.5
    assert stated["top_p"] == 0.25
    assert stated["max_completion_tokens"] == 50
    assert stated["seed"] == 2**63 - 1
    assert stated["stop"] == ["\n", "END"]
    assert [m["role"] for m in stated["messages"]] == ["system", "user", "assistant", "user"]
    assert set(bare) == {"model", "messages", "stream", "stream_options", "max_completion_tokens"}


async def test_a_closed_schema_is_strict_and_an_open_one_is_not(
    openai: ProviderDouble, running: Proxy
) -> None:
    openai.will(Reply([RECORDED["openai"]]), Reply([RECORDED["openai"]]))
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    for extra in ({}, {"required": ["a"], "additionalProperties": False}):
        request = ask()
        request.prompt.output.json_schema = json.dumps(schema | extra)
        await running.forward(request)
    assert [b["response_format"]["json_schema"]["strict"] for b in openai.bodies] == [False, True]


async def test_choices_travel_as_an_enumeration_and_come_back_as_the_choice(
    openai: ProviderDouble, running: Proxy
) -> None:
    openai.will(Reply(openai_chunks('{"cho', 'ice":"no"', "}")))
    request = ask()
    request.prompt.output.choices.choice.extend(["yes", "no"])
    text, _ = await running.forward(request)
    assert text == "no"
    schema = openai.bodies[0]["response_format"]["json_schema"]["schema"]
    assert schema["properties"]["choice"]["enum"] == ["yes", "no"]


async def test_more_stop_strings_than_the_provider_takes_are_applied_here(
    openai: ProviderDouble, running: Proxy
) -> None:
    reply = openai.will(Reply(openai_chunks("one FI", "VE two", finish=None), hold=True))
    request = ask()
    request.prompt.sampling.stop.extend(["ONE", "TWO", "THREE", "FOUR", "FIVE"])
    text, finished = await running.forward(request)
    assert text == "one "
    assert len(openai.bodies[0]["stop"]) == 4
    assert finished.finish_reason == types_pb2.FINISH_REASON_STOP
    await reply.disconnected.wait()


async def test_a_continued_answer_is_asked_for_in_words_and_its_repetition_is_cut(
    openai: ProviderDouble, running: Proxy
) -> None:
    openai.will(Reply(openai_chunks("A weir holds ", "the river", " back.")))
    text, _ = await running.forward(ask(continue_from="A weir holds the river"))
    assert text == " back."
    *_, assistant, instruction = openai.bodies[0]["messages"]
    assert assistant == {"role": "assistant", "content": "A weir holds the river"}
    assert instruction["role"] == "user"


async def test_a_repetition_of_the_last_sentence_is_cut_and_marks_around_it_too(
    openai: ProviderDouble, running: Proxy
) -> None:
    openai.will(Reply(openai_chunks('"It keeps ', "the water ", "of the mill", ' high."')))
    text, _ = await running.forward(ask(continue_from="A weir is a low dam. It keeps the water of the mill"))
    assert text == " high."


async def test_an_unjoinable_answer_is_no_mark_against_the_provider(
    openai: ProviderDouble, running: Proxy
) -> None:
    request = ask(continue_from='{"a"')
    request.prompt.output.json_schema = '{"type": "object"}'
    for _ in range(CircuitBreaker().min_calls):
        openai.will(Reply(openai_chunks('{"b": 1}')), Reply(openai_chunks('{"b": 1}')))
        with pytest.raises(grpc.aio.AioRpcError):
            await running.forward(request)
    openai.will(Reply(openai_chunks("still there")))
    assert (await running.forward(ask()))[0] == "still there"


async def test_an_answer_begun_anew_has_room_for_what_is_cut(openai: ProviderDouble, running: Proxy) -> None:
    openai.will(Reply(openai_chunks('{\n  "river": "Elbe", "km": 1094}')))
    request = ask(continue_from='{"river": "Elbe",')
    request.prompt.sampling.max_tokens = 8
    request.prompt.output.json_schema = '{"type": "object"}'
    text, _ = await running.forward(request)
    assert text == ' "km": 1094}'
    assert openai.bodies[0]["max_completion_tokens"] == 8 + 6


async def test_a_constrained_answer_that_cannot_be_joined_to_what_was_sent_is_refused(
    openai: ProviderDouble, running: Proxy
) -> None:
    openai.will(Reply(openai_chunks('{"b": 1}')), Reply(openai_chunks('{"a": 2}')))
    request = ask(continue_from='{"a"')
    request.prompt.output.json_schema = '{"type": "object"}'
    text, finished = await running.forward(request)
    assert text == ": 2}"
    assert len(finished.usage) == 2


async def test_a_compatible_server_needs_no_key_and_gets_the_older_length_field(
    openai: ProviderDouble, settings: Settings
) -> None:
    openai.will(Reply(openai_chunks("ok")))
    free = {"input_usd_per_million": 0, "output_usd_per_million": 0, "as_of": "2026-11-01"}
    frontier = {
        "providers": {"lab": {"kind": "openai_compatible", "base_url": openai.url, "models": ["llama"]}},
        "prices": {"llama": free},
    }
    request = ask(model="llama")
    request.prompt.sampling.top_k = 3
    async with proxy(configured(settings, frontier=frontier)) as running:
        text, finished = await running.forward(request)
    assert text == "ok"
    assert finished.usage[0].cost_usd == 0
    assert "Authorization" not in openai.headers[0]
    assert (openai.bodies[0]["max_tokens"], openai.bodies[0]["top_k"]) == (1024, 3)


async def test_a_server_that_continues_a_last_turn_is_told_to(
    openai: ProviderDouble, settings: Settings
) -> None:
    openai.will(*(Reply(openai_chunks(" the river.")) for _ in range(2)), Reply(openai_chunks("{}")))
    free = {"input_usd_per_million": 0, "output_usd_per_million": 0, "as_of": "2026-11-01"}
    lab = {"kind": "openai_compatible", "base_url": openai.url, "models": ["llama"], "prefill": True}
    frontier = {"providers": {"lab": lab}, "prices": {"llama": free}}
    constrained = ask(model="llama", continue_from="{")
    constrained.prompt.output.json_schema = '{"type": "object"}'
    async with proxy(configured(settings, frontier=frontier)) as running:
        text, _ = await running.forward(ask(model="llama", continue_from="A weir holds "))
        await running.forward(ask(model="llama"))
        rest, _ = await running.forward(constrained)
    assert text == "the river."
    assert rest == "}"
    prefilled, fresh, anew = openai.bodies
    assert prefilled["messages"][-1] == {"role": "assistant", "content": "A weir holds"}
    assert (prefilled["continue_final_message"], prefilled["add_generation_prompt"]) == (True, False)
    for body in (fresh, anew):
        assert not {"continue_final_message", "add_generation_prompt"} & set(body)
        assert body["messages"][-1]["role"] == "user"


async def test_a_reasoning_model_gets_neither_temperature_nor_stop_strings(
    openai: ProviderDouble, running: Proxy
) -> None:
    openai.will(Reply(openai_chunks("done END more")))
    request = ask(model="gpt-5-mini")
    request.prompt.sampling.MergeFrom(types_pb2.SamplingParams(temperature=0.1, stop=["END"]))
    text, _ = await running.forward(request)
    assert text == "done "
    assert not {"temperature", "top_p", "stop"} & set(openai.bodies[0])


async def test_reasoning_is_told_apart_from_the_rest_of_the_output(
    openai: ProviderDouble, running: Proxy
) -> None:
    usage = {
        "prompt_tokens": 9,
        "completion_tokens": 30,
        "completion_tokens_details": {"reasoning_tokens": 27},
    }
    last = b"data: " + json.dumps({"choices": [], "usage": usage}).encode() + b"\n\n"
    openai.will(Reply([*openai_chunks("A dam.", usage=None)[:-1], last, b"data: [DONE]\n\n"]))
    _, finished = await running.forward(ask(model="gpt-5-mini"))
    (told,) = finished.usage
    assert (told.completion_tokens, told.reasoning_tokens) == (30, 27)
    assert told.cost_usd == pytest.approx((9 * 0.25 + 30 * 2) / 1e6, abs=1e-12)


async def test_the_reasoning_of_a_compatible_server_is_no_part_of_the_answer(
    openai: ProviderDouble, running: Proxy
) -> None:
    thought = {"choices": [{"index": 0, "delta": {"reasoning_content": "The user asks..."}}]}
    openai.will(Reply([b"data: " + json.dumps(thought).encode() + b"\n\n", *openai_chunks("A dam.")]))
    assert (await running.forward(ask()))[0] == "A dam."


async def test_a_used_up_limit_says_how_long_to_wait(openai: ProviderDouble, running: Proxy) -> None:
    limits = {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "1m12.5s",
    }
    openai.will(Reply([b'{"error": {"type": "rate_limit_exceeded"}}'], status=429, headers=limits))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await running.forward(ask())
    error = from_rpc_error(caught.value)
    assert (error.code, error.retry_after_s) == (ErrorCode.RATE_LIMITED, 72.5)


async def test_the_limits_of_an_answer_are_among_the_metrics(openai: ProviderDouble, running: Proxy) -> None:
    limits = {"x-ratelimit-limit-tokens": "30000", "x-ratelimit-remaining-tokens": "29000"}
    requests = {"x-ratelimit-limit-requests": "500", "x-ratelimit-remaining-requests": "499"}
    openai.will(Reply([RECORDED["openai"]], headers={**limits, **requests}))
    await running.forward(ask())
    labels = {names.PROVIDER: "openai", names.REQUEST_MODEL: "gpt-4o", names.RATE_SCOPE: "tokens"}
    measured = metered()
    assert measured.total(names.FRONTIER_RATE_LIMIT, **labels) == 30_000
    assert measured.total(names.FRONTIER_RATE_LEFT, **labels) == 29_000


BROKEN = {
    "no JSON": (Reply([b"data: {\n\n"]), ErrorCode.PROVIDER_FAILED, True),
    "HTML": (Reply([b"<html>"], headers={"Content-Type": "text/html"}), ErrorCode.PROVIDER_FAILED, False),
    "redirect": (Reply([], status=302, headers={"Location": "/"}), ErrorCode.PROVIDER_FAILED, False),
    "expired key": (Reply([b"{}"], status=401), ErrorCode.PROVIDER_AUTH, False),
    "10 MB": (Reply([b"data: ", *[b"x" * 2**20] * 10]), ErrorCode.PROVIDER_FAILED, True),
    "filtered": (
        Reply(openai_chunks("A", finish="content_filter")),
        ErrorCode.PROVIDER_REJECTED,
        True,
    ),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_a_broken_answer_is_told_and_booked_as_told(
    openai: ProviderDouble, settings: Settings, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    reply, code, paid = BROKEN[name]
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    providers = {"openai": {"kind": "openai", "base_url": openai.url}}
    openai.will(replace(reply, sent=asyncio.Event(), disconnected=asyncio.Event()))
    once = configured(settings, frontier={"providers": providers, "retries": {"per_model": 0}})
    async with proxy(once) as running:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await running.forward(ask())
        (booked,) = (await running.stub.GetSpend(pb.GetSpendRequest())).spend
    error = from_rpc_error(caught.value)
    assert error.code is code
    assert booked.reserved_usd == 0
    assert (booked.settled_usd > 0) is paid
    assert float(error.metadata["cost_usd"]) == pytest.approx(booked.settled_usd, abs=1e-9)
