"""The Gemini provider on the wire."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

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

MODEL = "gemini-2.5-flash"


@pytest.fixture
async def gemini() -> AsyncIterator[ProviderDouble]:
    async with ProviderDouble().running() as double:
        yield double


@pytest.fixture
async def running(
    gemini: ProviderDouble, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Proxy]:
    monkeypatch.setenv("GEMINI_API_KEY", "AIza-double")
    providers = {"gemini": {"kind": "gemini", "base_url": gemini.url}}
    changed = configured(settings, frontier={"providers": providers}, tiers={"frontier": {"model_id": MODEL}})
    async with proxy(changed) as running:
        yield running


async def test_the_answer_is_without_thoughts_and_thoughts_are_priced(
    gemini: ProviderDouble, running: Proxy
) -> None:
    gemini.will(Reply([RECORDED["gemini"]]))
    text, finished = await running.forward(ask())
    assert text == ANSWER
    (usage,) = finished.usage
    assert (usage.prompt_tokens, usage.cached_prompt_tokens, usage.completion_tokens) == (25, 8, 14)
    assert usage.cost_usd == pytest.approx((17 * 0.3 + 8 * 0.03 + 14 * 2.5) / 1e6, abs=1e-12)


async def test_the_request_follows_generate_content(gemini: ProviderDouble, running: Proxy) -> None:
    gemini.will(Reply([RECORDED["gemini"]]))
    request = ask()
    request.prompt.messages.insert(0, types_pb2.Message(role=types_pb2.ROLE_SYSTEM, content="Be brief."))
    request.prompt.messages.append(types_pb2.Message(role=types_pb2.ROLE_ASSISTANT, content="A dam."))
    request.prompt.messages.append(types_pb2.Message(role=types_pb2.ROLE_USER, content="More."))
    request.prompt.sampling.MergeFrom(
        types_pb2.SamplingParams(temperature=0.5, top_p=0.5, top_k=5, seed=2**40 + 3, stop=["END"])
    )
    request.prompt.output.json_schema = '{"type": "object"}'
    await running.forward(request)
    assert gemini.paths == [f"/v1/models/{MODEL}:streamGenerateContent?alt=sse"]
    assert gemini.headers[0]["x-goog-api-key"] == "AIza-double"
    assert gemini.bodies[0] == {
        "contents": [
            {"role": "user", "parts": [{"text": "What is a weir?"}]},
            {"role": "model", "parts": [{"text": "A dam."}]},
            {"role": "user", "parts": [{"text": "More."}]},
        ],
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "generationConfig": {
            "maxOutputTokens": 1024,
            "temperature": 0.5,
            "topP": 0.5,
            "topK": 5,
            "seed": 3,
            "stopSequences": ["END"],
            "responseMimeType": "application/json",
            "responseJsonSchema": {"type": "object"},
        },
    }


async def test_a_blocked_answer_is_rejected_and_not_shopped_around(
    gemini: ProviderDouble, running: Proxy
) -> None:
    gemini.will(Reply([RECORDED["gemini"].replace(b'"STOP"', b'"SAFETY"')]))
    with pytest.raises(grpc.aio.AioRpcError, match="content filter") as caught:
        await running.forward(ask())
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION


async def test_a_continued_answer_is_asked_for_in_words_and_its_repetition_is_cut(
    gemini: ProviderDouble, running: Proxy
) -> None:
    gemini.will(Reply([RECORDED["gemini"]]))
    standing = ANSWER[: ANSWER.index(" auf")]
    text, _ = await running.forward(ask(continue_from=standing))
    assert standing + text == ANSWER
    *_, model, instruction = gemini.bodies[0]["contents"]
    assert model == {"role": "model", "parts": [{"text": standing}]}
    assert instruction["role"] == "user"


def google_error(code: int, status: str, *details: dict[str, str]) -> Reply:
    body = {"error": {"code": code, "message": "Sorry.", "status": status, "details": list(details)}}
    return Reply([json.dumps(body).encode()], status=code)


async def test_the_delay_of_a_rate_limit_is_in_its_body(gemini: ProviderDouble, running: Proxy) -> None:
    delay = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.5s"}
    gemini.will(google_error(429, "RESOURCE_EXHAUSTED", delay))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await running.forward(ask())
    error = from_rpc_error(caught.value)
    assert (error.code, error.retry_after_s) == (ErrorCode.RATE_LIMITED, 34.5)


async def test_a_model_that_lost_its_way_is_asked_again(gemini: ProviderDouble, running: Proxy) -> None:
    usage = {"promptTokenCount": 25, "thoughtsTokenCount": 6}
    lost = {"candidates": [{"finishReason": "MALFORMED_RESPONSE"}], "usageMetadata": usage}
    gemini.will(Reply([b"data: " + json.dumps(lost).encode() + b"\r\n\r\n"]), Reply([RECORDED["gemini"]]))
    text, finished = await running.forward(ask())
    assert text == ANSWER
    failed, good = finished.usage
    assert (failed.prompt_tokens, failed.completion_tokens, failed.reasoning_tokens) == (25, 6, 6)
    assert (good.completion_tokens, good.reasoning_tokens) == (14, 4)


async def test_a_blocked_prompt_costs_what_is_reported(gemini: ProviderDouble, running: Proxy) -> None:
    blocked = {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 25}}
    gemini.will(Reply([b"data: " + json.dumps(blocked).encode() + b"\r\n\r\n"]))
    with pytest.raises(grpc.aio.AioRpcError, match="content filter") as caught:
        await running.forward(ask())
    error = from_rpc_error(caught.value)
    assert error.code is ErrorCode.PROVIDER_REJECTED
    assert float(error.metadata["cost_usd"]) == pytest.approx(25 * 0.3 / 1e6, abs=1e-9)
