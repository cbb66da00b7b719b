"""The worker on the real embedded model: every RPC, every bound, and what bad input gets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, TypeAlias

import grpc
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.services.engine_cores import cores
from weir.common.app import App
from weir.common.calls import bidi, connect, stream_from, unary
from weir.common.config import Settings
from weir.common.errors import ErrorCode, WeirError
from weir.slm_worker.app import build
from weir.v1 import slm_worker_pb2, slm_worker_pb2_grpc, types_pb2

Stub: TypeAlias = "slm_worker_pb2_grpc.SlmWorkerServiceAsyncStub"
MAX_RUNNING, MAX_WAITING = 4, 4


@pytest.fixture(scope="module")
def others() -> set[psutil.Process]:
    """The engines that are not the worker's own."""
    return cores()


@pytest.fixture(scope="module")
async def worker(embedded_model: Path, others: set[psutil.Process]) -> AsyncIterator[App]:
    del embedded_model, others
    settings = Settings.model_validate(
        {
            "services": {"slm_worker": {"port": 0, "drain_delay_s": 0, "drain_grace_s": 1}},
            "tiers": {"slm": {"run": {"max_running": MAX_RUNNING, "max_waiting": MAX_WAITING}}},
        }
    )
    async with build(settings) as app:
        yield app


@pytest.fixture
async def stub(worker: App) -> AsyncIterator[Stub]:
    async with connect(f"127.0.0.1:{worker.port}") as channel:
        yield slm_worker_pb2_grpc.SlmWorkerServiceStub(channel)


def _prompt(text: str = "What is the capital of France?", **sampling: Any) -> types_pb2.Prompt:
    parameters = {"max_tokens": 12, "temperature": 0.0, **sampling}
    message = types_pb2.Message(role=types_pb2.ROLE_USER, content=text)
    return types_pb2.Prompt(messages=[message], sampling=types_pb2.SamplingParams(**parameters))


async def _complete(
    stub: Stub, prompt: types_pb2.Prompt, **fields: Any
) -> tuple[list[types_pb2.TokenDelta], slm_worker_pb2.SlmFinished]:
    deltas: list[types_pb2.TokenDelta] = []
    async with stream_from(
        stub.Complete, slm_worker_pb2.CompleteRequest(prompt=prompt, **fields)
    ) as responses:
        async for response in responses:
            if response.HasField("finished"):
                return deltas, response.finished
            deltas.append(response.delta)
    raise AssertionError("the stream ended without Finished")


async def _text(stub: Stub, prompt: types_pb2.Prompt) -> str:
    deltas, _ = await _complete(stub, prompt)
    return "".join(delta.text for delta in deltas)


async def _until_idle(stub: Stub) -> None:
    async with stream_from(stub.WatchLoad, slm_worker_pb2.WatchLoadRequest(), timeout=10) as loads:
        async for load in loads:
            if load.running == 0 and load.waiting == 0:
                return


async def test_answers_with_text_tokens_and_account(stub: Stub) -> None:
    deltas, finished = await _complete(stub, _prompt())
    assert "Paris" in "".join(delta.text for delta in deltas)
    tokens = [token for delta in deltas for token in delta.tokens]
    assert finished.usage.completion_tokens >= len(tokens) > 0
    assert all(token.logprob <= 0 and token.source == types_pb2.SOURCE_SLM for token in tokens)
    assert finished.usage.prompt_tokens > 10
    assert finished.timing.total.ToNanoseconds() >= finished.timing.time_to_first_token.ToNanoseconds() > 0
    assert not finished.usage.stand_in


async def test_first_token_comes_alone(stub: Stub) -> None:
    deltas, _ = await _complete(stub, _prompt(max_tokens=4))
    assert len(deltas[0].tokens) == 1


async def test_max_tokens_ends_with_length(stub: Stub) -> None:
    _, finished = await _complete(stub, _prompt("Write a long story.", max_tokens=5))
    assert finished.finish_reason == types_pb2.FINISH_REASON_LENGTH
    assert finished.usage.completion_tokens == 5


async def test_stop_string_does_not_appear(stub: Stub) -> None:
    text = await _text(stub, _prompt(stop=["Paris"]))
    assert text
    assert "Paris" not in text


async def test_seed_repeats_a_sample(stub: Stub) -> None:
    prompt = _prompt("Tell me something.", temperature=1.0, seed=11)
    assert await _text(stub, prompt) == await _text(stub, prompt)


async def test_schema_is_kept(stub: Stub) -> None:
    prompt = _prompt("Alice is 31. Give her name and age as JSON.", max_tokens=60)
    properties = {"name": {"type": "string", "maxLength": 20}, "age": {"type": "integer"}}
    schema = {
        "type": "object",
        "properties": properties,
        "required": ["name", "age"],
        "additionalProperties": False,
    }
    prompt.output.json_schema = json.dumps(schema)
    assert set(json.loads(await _text(stub, prompt))) == {"name", "age"}


async def test_choices_are_kept(stub: Stub) -> None:
    prompt = _prompt("Is fire hot?")
    prompt.output.choices.choice.extend(["yes", "no"])
    assert await _text(stub, prompt) in {"yes", "no"}


async def test_open_assistant_turn_is_continued(stub: Stub) -> None:
    prompt = _prompt(max_tokens=4)
    prompt.messages.append(
        types_pb2.Message(role=types_pb2.ROLE_ASSISTANT, content="The capital of France is")
    )
    assert "Paris" in await _text(stub, prompt)


async def test_model_info_tells_what_runs(stub: Stub) -> None:
    info = await unary(stub.GetModelInfo, slm_worker_pb2.GetModelInfoRequest())
    assert (info.engine, info.quantization) == ("openvino", "q4_1")
    assert {"json_schema", "session", "draft"} <= set(info.capabilities)
    assert len(info.tokenizer_sha256) == 64


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"messages": []}, ErrorCode.INVALID_PROMPT),
        ({"sampling": types_pb2.SamplingParams(temperature=float("nan"))}, ErrorCode.INVALID_SAMPLING),
        ({"output": types_pb2.OutputConstraint(json_schema="{")}, ErrorCode.INVALID_CONSTRAINT),
        ({"output": types_pb2.OutputConstraint(json_schema='{"type": 3}')}, ErrorCode.INVALID_CONSTRAINT),
        ({"output": types_pb2.OutputConstraint(regex="(")}, ErrorCode.INVALID_CONSTRAINT),
        ({"output": types_pb2.OutputConstraint(grammar="root ::= missing")}, ErrorCode.INVALID_CONSTRAINT),
        (
            {"messages": [types_pb2.Message(role=types_pb2.ROLE_USER, content="word " * 20_000)]},
            ErrorCode.CONTEXT_TOO_LONG,
        ),
    ],
)
async def test_bad_prompt_is_refused(stub: Stub, change: dict[str, Any], code: ErrorCode) -> None:
    prompt = _prompt()
    for name in change:
        prompt.ClearField(name)  # type: ignore[arg-type]
    prompt.MergeFrom(types_pb2.Prompt(**change))
    with pytest.raises(WeirError) as caught:
        await _complete(stub, prompt)
    assert caught.value.code is code


async def test_unsatisfiable_schema_is_refused_at_once(stub: Stub) -> None:
    prompt = _prompt()
    prompt.output.json_schema = '{"type": "object", "properties": {"a": false}, "required": ["a"]}'
    with pytest.raises(WeirError) as caught:
        await _complete(stub, prompt)
    assert caught.value.code is ErrorCode.INVALID_CONSTRAINT


async def test_unknown_adapter_is_not_found(stub: Stub) -> None:
    with pytest.raises(WeirError) as caught:
        await _complete(stub, _prompt(), adapter="legal")
    assert caught.value.code is ErrorCode.UNKNOWN_ADAPTER


async def test_too_many_alternatives_are_refused(stub: Stub) -> None:
    with pytest.raises(WeirError) as caught:
        await _complete(stub, _prompt(), top_logprobs=500)
    assert caught.value.code is ErrorCode.INVALID_REQUEST


async def test_deadline_in_the_past_is_exceeded(stub: Stub) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _response in stub.Complete(slm_worker_pb2.CompleteRequest(prompt=_prompt()), timeout=-1):
            pass
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_cancel_stops_the_engine(stub: Stub) -> None:
    call = stub.Complete(
        slm_worker_pb2.CompleteRequest(prompt=_prompt("Write a long story.", max_tokens=4000))
    )
    await call.read()
    call.cancel()
    await _until_idle(stub)


async def test_load_is_pushed_as_it_changes(stub: Stub) -> None:
    async with stream_from(stub.WatchLoad, slm_worker_pb2.WatchLoadRequest(), timeout=20) as loads:
        assert (await anext(loads)).capacity == MAX_RUNNING
        call = stub.Complete(
            slm_worker_pb2.CompleteRequest(prompt=_prompt("Write a story.", max_tokens=2000))
        )
        await call.read()
        while (await anext(loads)).running != 1:
            pass
        call.cancel()
        while (await anext(loads)).running != 0:
            pass


async def test_surplus_is_refused_and_the_rest_served(stub: Stub) -> None:
    async def one() -> ErrorCode | None:
        try:
            await _complete(stub, _prompt("Name a color.", max_tokens=6))
        except WeirError as error:
            return error.code if error.retry_after_s is not None else ErrorCode.INTERNAL
        return None

    results = await asyncio.gather(*(one() for _ in range(30)))
    assert set(results) == {None, ErrorCode.QUEUE_FULL}
    assert results.count(None) >= MAX_RUNNING + MAX_WAITING
    await _until_idle(stub)


async def test_killed_engine_is_told_and_comes_back(
    stub: Stub, worker: App, others: set[psutil.Process]
) -> None:
    (core,) = cores() - others
    async with connect(f"127.0.0.1:{worker.port}") as channel:
        health = health_pb2_grpc.HealthStub(channel)
        watch = health.Watch(health_pb2.HealthCheckRequest(service="weir.v1.SlmWorkerService"), timeout=60)
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        request = slm_worker_pb2.CompleteRequest(prompt=_prompt("Write a story.", max_tokens=2000))
        async with stream_from(stub.Complete, request) as responses, bidi(stub.Draft) as call:
            await anext(responses)
            start = slm_worker_pb2.DraftStart(prompt=_prompt("Write a story.", max_tokens=2000))
            await call.write(slm_worker_pb2.DraftRequest(start=start))
            await call.read()
            core.kill()
            with pytest.raises(WeirError) as caught:
                async for _response in responses:
                    pass
            assert caught.value.code is ErrorCode.ENGINE_CRASHED
            ack = slm_worker_pb2.DraftAck(correction=[504, 253])
            await call.write(slm_worker_pb2.DraftRequest(ack=ack))
            with pytest.raises(WeirError) as caught:
                await call.read()
        assert caught.value.code is ErrorCode.ENGINE_CRASHED
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        watch.cancel()
    assert "Paris" in await _text(stub, _prompt())
