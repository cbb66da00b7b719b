"""The Anthropic provider on the wire."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from tests.services.provider_doubles import (
    ANSWER,
    RECORDED,
    ProviderDouble,
    Proxy,
    Reply,
    ask,
    configured,
    proxy,
)
from weir.common.config import Settings
from weir.common.errors import ErrorCode
from weir.common.errors.grpc import from_rpc_error
from weir.v1 import types_pb2

MODEL = "claude-haiku-4-5"
CLOSED = {
    "type": "object",
    "properties": {"a": {"type": "string"}},
    "required": ["a"],
    "additionalProperties": False,
}


def event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


@pytest.fixture
async def anthropic() -> AsyncIterator[ProviderDouble]:
    async with ProviderDouble().running() as double:
        yield double


@pytest.fixture
async def running(
    anthropic: ProviderDouble, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Proxy]:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-double")
    providers = {"anthropic": {"kind": "anthropic", "base_url": anthropic.url}}
    changed = configured(settings, frontier={"providers": providers}, tiers={"frontier": {"model_id": MODEL}})
    async with proxy(changed) as running:
        yield running


async def test_usage_is_put_together_from_the_streams_beginning_and_end(
    anthropic: ProviderDouble, running: Proxy
) -> None:
    anthropic.will(Reply([RECORDED["anthropic"]]))
    text, finished = await running.forward(ask())
    assert text == ANSWER
    (usage,) = finished.usage
    assert (usage.prompt_tokens, usage.cached_prompt_tokens, usage.completion_tokens) == (25, 8, 14)
    assert usage.cost_usd == pytest.approx((17 * 1 + 8 * 0.1 + 14 * 5) / 1e6, abs=1e-12)


async def test_the_request_follows_the_messages_api(anthropic: ProviderDouble, running: Proxy) -> None:
    anthropic.will(Reply([RECORDED["anthropic"]]))
    request = ask()
    request.prompt.messages.insert(0, types_pb2.Message(role=types_pb2.ROLE_SYSTEM, content="Be brief."))
    request.prompt.sampling.MergeFrom(
        types_pb2.SamplingParams(temperature=1.5, top_p=0.5, top_k=5, stop=["END"], max_tokens=9)
    )
    await running.forward(request)
    assert anthropic.paths == ["/v1/messages"]
    assert anthropic.headers[0]["x-api-key"] == "sk-ant-double"
    assert anthropic.headers[0]["anthropic-version"] == "2023-06-01"
    assert anthropic.bodies[0] == {
        "model": MODEL,
        "max_tokens": 9,
        "messages": [{"role": "user", "content": "What is a weir?"}],
        "stream": True,
        "system": "Be brief.",
        "stop_sequences": ["END"],
        "temperature": 1.0,
        "top_k": 5,
    }


async def test_a_model_that_takes_a_prefix_gets_it_as_the_last_turn(
    anthropic: ProviderDouble, running: Proxy
) -> None:
    anthropic.will(Reply([RECORDED["anthropic"]]), Reply([RECORDED["anthropic"]]))
    await running.forward(ask(continue_from="Ein Wehr "))
    await running.forward(ask(continue_from="Ein Wehr ", model="claude-opus-4-8"))
    prefilled, told = (body["messages"] for body in anthropic.bodies)
    assert prefilled[-1] == {"role": "assistant", "content": "Ein Wehr"}
    assert [turn["role"] for turn in told] == ["user", "assistant", "user"]


async def test_a_closed_schema_is_decoded_and_an_open_one_becomes_a_tool(
    anthropic: ProviderDouble, running: Proxy
) -> None:
    tool = [
        event("message_start", message={"usage": {"input_tokens": 5, "output_tokens": 1}}),
        event("content_block_start", index=0, content_block={"type": "tool_use", "name": "answer"}),
        event("content_block_delta", index=0, delta={"type": "input_json_delta", "partial_json": '{"a"'}),
        event("content_block_delta", index=0, delta={"type": "input_json_delta", "partial_json": ': "x"}'}),
        event("message_delta", delta={"stop_reason": "tool_use"}, usage={"output_tokens": 6}),
        event("message_stop"),
    ]
    anthropic.will(Reply([RECORDED["anthropic"]]), Reply(tool))
    request = ask()
    request.prompt.output.json_schema = json.dumps(CLOSED)
    await running.forward(request)
    request.prompt.output.json_schema = json.dumps({"type": "object"})
    text, _ = await running.forward(request)
    assert text == '{"a": "x"}'
    decoded, forced = anthropic.bodies
    assert decoded["output_config"]["format"]["schema"] == CLOSED
    assert forced["tool_choice"] == {"type": "tool", "name": forced["tools"][0]["name"]}


async def test_an_overload_inside_the_stream_before_any_text_is_tried_again(
    anthropic: ProviderDouble, running: Proxy
) -> None:
    start = event("message_start", message={"usage": {"input_tokens": 17, "output_tokens": 1}})
    overloaded = event("error", error={"type": "overloaded_error", "message": "Overloaded"})
    anthropic.will(Reply([start, overloaded]), Reply([RECORDED["anthropic"]]))
    text, finished = await running.forward(ask())
    assert text == ANSWER
    failed, good = finished.usage
    assert failed.prompt_tokens == 17
    assert failed.cost_usd > 0
    assert good.completion_tokens == 14


async def test_a_length_cut_is_told(anthropic: ProviderDouble, running: Proxy) -> None:
    cut = RECORDED["anthropic"].replace(b"end_turn", b"max_tokens")
    anthropic.will(Reply([cut]))
    _, finished = await running.forward(ask())
    assert finished.finish_reason == types_pb2.FINISH_REASON_LENGTH


async def test_what_was_written_to_the_cache_and_thought_is_told_and_priced_by_its_class(
    anthropic: ProviderDouble, running: Proxy
) -> None:
    start = {"input_tokens": 10, "cache_read_input_tokens": 20, "cache_creation_input_tokens": 30}
    end = {"output_tokens": 50, "output_tokens_details": {"thinking_tokens": 40}}
    stream = [
        event("message_start", message={"usage": {**start, "output_tokens": 1}}),
        event("content_block_delta", index=0, delta={"type": "thinking_delta", "thinking": "A dam, then."}),
        event("content_block_delta", index=1, delta={"type": "text_delta", "text": "A dam."}),
        event("message_delta", delta={"stop_reason": "end_turn"}, usage=end),
        event("message_stop"),
    ]
    anthropic.will(Reply(stream))
    text, finished = await running.forward(ask())
    assert text == "A dam."
    (usage,) = finished.usage
    assert (usage.prompt_tokens, usage.cached_prompt_tokens, usage.cache_write_tokens) == (60, 20, 30)
    assert (usage.completion_tokens, usage.reasoning_tokens) == (50, 40)
    assert usage.cost_usd == pytest.approx((10 * 1 + 20 * 0.1 + 30 * 1.25 + 50 * 5) / 1e6, abs=1e-12)


async def test_a_used_up_limit_says_how_long_to_wait_by_the_answers_own_clock(
    anthropic: ProviderDouble, running: Proxy
) -> None:
    limits = {
        "Date": "Sun, 22 Nov 2020 12:00:00 GMT",
        "anthropic-ratelimit-requests-limit": "50",
        "anthropic-ratelimit-requests-remaining": "0",
        "anthropic-ratelimit-requests-reset": "2020-11-22T12:00:41Z",
    }
    anthropic.will(Reply([b'{"error": {"type": "rate_limit_error"}}'], status=429, headers=limits))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await running.forward(ask())
    error = from_rpc_error(caught.value)
    assert (error.code, error.retry_after_s) == (ErrorCode.RATE_LIMITED, 41)
