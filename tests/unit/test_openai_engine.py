"""The `openai` engine against recorded streams: every way in which a server can answer, or fail to."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from weir.common.config.model import LocalModel
from weir.common.errors import ErrorCode, WeirError
from weir.engines import openai_compat
from weir.engines.base import (
    Candidate,
    Capability,
    ChatMessage,
    Constraint,
    FinishReason,
    GenerationRequest,
    Health,
    Sampling,
    Step,
    TokenInfo,
)
from weir.engines.openai_compat import OpenAiEngine
from weir.engines.openai_compat.connection import Connection

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
END = {"choices": [{"delta": {}, "finish_reason": "stop"}]}
USAGE = {
    "choices": [],
    "usage": {"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}},
}


def text(content: str) -> dict[str, Any]:
    return {"choices": [{"delta": {"content": content}}]}


def sse(*events: dict[str, Any] | str) -> bytes:
    return b"".join(
        b"data: " + (event if isinstance(event, str) else json.dumps(event)).encode() + b"\n\n"
        for event in events
    )


class FakeServer:
    """Plays back what a server sent; the first completion, the engine's warm-up, is always answered."""

    def __init__(self, owner: str) -> None:
        self.card: dict[str, Any] = {"id": "m", "owned_by": owner}
        self.other_cards: list[dict[str, Any]] = []
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.answer: Handler | bytes = sse(text("ok"), END, USAGE, "[DONE]")
        self.scores: dict[str, Any] = {}
        self.healthy = 200
        app = web.Application()
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/health", self._health)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_post("/v1/completions", self._complete)
        self.server = TestServer(app)

    async def _models(self, request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [self.card, *self.other_cards]})

    async def _health(self, request: web.Request) -> web.Response:
        return web.Response(status=self.healthy)

    async def _complete(self, request: web.Request) -> web.Response:
        self.bodies.append(await request.json())
        return web.json_response(self.scores)

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        self.bodies.append(await request.json())
        self.headers.append(dict(request.headers))
        if len(self.bodies) == 1:
            return await stream(request, sse(text("ok"), END, "[DONE]"))
        return await (
            stream(request, self.answer) if isinstance(self.answer, bytes) else self.answer(request)
        )


async def stream(request: web.Request, *parts: bytes) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    for part in parts:
        await response.write(part)
    return response


@asynccontextmanager
async def engine_of(fake: FakeServer, **run: Any) -> AsyncIterator[OpenAiEngine]:
    async with fake.server:
        settings = LocalModel(engine="openai", base_url=str(fake.server.make_url("/v1/")), **run)
        engine = openai_compat.create("m", settings, max_context=4096)
        await engine.start()
        try:
            yield engine
        finally:
            await engine.aclose()


def request(**fields: Any) -> GenerationRequest:
    return GenerationRequest("r", fields.pop("messages", (ChatMessage("user", "Hi"),)), **fields)


async def collect(engine: OpenAiEngine, **fields: Any) -> list[Step]:
    async with aclosing(engine.generate(request(**fields))) as steps:
        return [step async for step in steps]


async def failing(fake: FakeServer, answer: Handler | bytes, **fields: Any) -> WeirError:
    fake.answer = answer
    async with engine_of(fake) as engine:
        with pytest.raises(WeirError) as caught:
            await collect(engine, **fields)
        assert (engine.load.running, engine.load.waiting) == (0, 0)
        fake.answer = sse(text("still there"), END)
        assert (await collect(engine))[0].text == "still there"
    return caught.value


def status(code: int, body: dict[str, Any] | str, **headers: str) -> Handler:
    async def answer(_: web.Request) -> web.Response:
        content = body if isinstance(body, str) else json.dumps(body)
        return web.Response(status=code, text=content, headers=headers)

    return answer


async def test_text_counts_and_end_are_read() -> None:
    fake = FakeServer("vllm")
    fake.answer = sse(text("Hel"), text("lo 🙂"), END, USAGE, "[DONE]")
    async with engine_of(fake) as engine:
        steps = await collect(engine)
    assert [step.text for step in steps] == ["Hel", "lo 🙂", ""]
    last = steps[-1]
    assert last.finish_reason is FinishReason.STOP
    assert (last.prompt_tokens, last.cached_prompt_tokens, last.completion_tokens) == (9, 4, 2)


async def test_absent_parameters_stay_absent() -> None:
    fake = FakeServer("")
    async with engine_of(fake) as engine:
        await collect(engine)
    assert fake.bodies[-1] == {
        "model": "m",
        "messages": [{"role": "user", "content": "Hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def test_given_parameters_are_sent() -> None:
    fake = FakeServer("vllm")
    sampling = Sampling(max_tokens=5, temperature=0.0, top_p=0.5, top_k=3, seed=2**63 + 1, stop=("\n",))
    async with engine_of(fake) as engine:
        await collect(engine, sampling=sampling)
    sent = fake.bodies[-1]
    assert {name: sent[name] for name in ("max_tokens", "temperature", "top_p", "top_k", "seed", "stop")} == {
        "max_tokens": 5,
        "temperature": 0.0,
        "top_p": 0.5,
        "top_k": 3,
        "seed": 1,
        "stop": ["\n"],
    }


async def test_token_ids_of_llama_cpp() -> None:
    fake = FakeServer("llamacpp")
    entry = {"id": 5, "token": "a", "logprob": -0.5}
    other = {"id": 7, "token": "b", "logprob": -1.5}
    content = [entry | {"top_logprobs": [entry, other]}]
    fake.answer = sse({"choices": [{"delta": {"content": "a"}, "logprobs": {"content": content}}]}, END)
    async with engine_of(fake) as engine:
        steps = await collect(engine, logprobs=True, top_logprobs=2)
    assert steps[0].tokens == (TokenInfo(5, -0.5, top=(Candidate(5, -0.5), Candidate(7, -1.5))),)
    assert steps[-1].completion_tokens == 1


async def test_token_ids_of_vllm() -> None:
    fake = FakeServer("vllm")
    content = [
        {"token": "token_id:5", "logprob": -0.5, "top_logprobs": [{"token": "token_id:7", "logprob": -1.5}]}
    ]
    with_logprobs = {"delta": {"content": "a"}, "token_ids": [5], "logprobs": {"content": content}}
    fake.answer = sse(
        {"choices": [with_logprobs]}, {"choices": [{"delta": {"content": "b"}, "token_ids": [8, 9]}]}, END
    )
    async with engine_of(fake) as engine:
        steps = await collect(engine, logprobs=True, top_logprobs=1)
    assert fake.bodies[-1]["return_tokens_as_token_ids"] is True
    assert steps[0].tokens == (TokenInfo(5, -0.5, top=(Candidate(7, -1.5),)),)
    assert steps[1].tokens == (TokenInfo(8), TokenInfo(9))


async def test_tokens_without_ids_keep_their_log_probability() -> None:
    fake = FakeServer("sglang")
    content = [{"token": "a", "bytes": [97], "logprob": -0.5, "top_logprobs": []}]
    fake.answer = sse({"choices": [{"delta": {"content": "a"}, "logprobs": {"content": content}}]}, END)
    async with engine_of(fake) as engine:
        steps = await collect(engine, logprobs=True)
        assert engine.info.vocab_size == 0
    assert steps[0].tokens == (TokenInfo(0, -0.5),)


SCHEMA = Constraint("json_schema", ('{"type": "integer"}',))
REGEX = Constraint("regex", ("a+",))
CHOICES = Constraint("choices", ("a.b", "c"))
GRAMMAR = Constraint("grammar", ('root ::= "x"',))


@pytest.mark.parametrize(
    ("owner", "constraint", "fields"),
    [
        ("vllm", REGEX, {"structured_outputs": {"regex": "a+"}}),
        ("vllm", CHOICES, {"structured_outputs": {"choice": ["a.b", "c"]}}),
        ("vllm", GRAMMAR, {"structured_outputs": {"grammar": 'root ::= "x"'}}),
        ("sglang", REGEX, {"regex": "a+"}),
        ("sglang", CHOICES, {"regex": r"a\.b|c"}),
        ("sglang", GRAMMAR, {"ebnf": 'root ::= "x"'}),
        ("tensorrt_llm", REGEX, {"response_format": {"type": "regex", "regex": "a+"}}),
        ("tensorrt_llm", GRAMMAR, {"response_format": {"type": "ebnf", "ebnf": 'root ::= "x"'}}),
        ("llamacpp", CHOICES, {"grammar": 'root ::= "a.b" | "c"'}),
        (
            "",
            SCHEMA,
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "answer", "schema": {"type": "integer"}, "strict": True},
                }
            },
        ),
    ],
)
async def test_constraints_in_the_servers_words(
    owner: str, constraint: Constraint, fields: dict[str, Any]
) -> None:
    fake = FakeServer(owner)
    async with engine_of(fake) as engine:
        await collect(engine, constraint=constraint)
        assert Capability(constraint.kind) in engine.info.capabilities
    assert fields.items() <= fake.bodies[-1].items()


@pytest.mark.parametrize(
    ("owner", "fields"),
    [
        ("", {"constraint": REGEX}),
        ("llamacpp", {"constraint": REGEX}),
        ("", {"sampling": Sampling(top_k=5)}),
        ("library", {"logprobs": True}),
        ("tensorrt_llm", {"messages": (ChatMessage("user", "Hi"), ChatMessage("assistant", "Well"))}),
    ],
)
async def test_what_a_server_lacks_is_refused_and_not_sent(owner: str, fields: dict[str, Any]) -> None:
    fake = FakeServer(owner)
    async with engine_of(fake) as engine:
        with pytest.raises(WeirError) as caught:
            await collect(engine, **fields)
    assert caught.value.code is ErrorCode.UNSUPPORTED
    assert len(fake.bodies) == 1


async def test_open_turn_is_continued_in_the_servers_words() -> None:
    fake = FakeServer("vllm")
    async with engine_of(fake) as engine:
        await collect(engine, messages=(ChatMessage("user", "Hi"), ChatMessage("assistant", "Well")))
    assert fake.bodies[-1]["continue_final_message"] is True
    assert fake.bodies[-1]["add_generation_prompt"] is False


async def test_configured_server_overrides_what_it_says_of_itself() -> None:
    fake = FakeServer("a proxy")
    async with engine_of(fake, server="vllm") as engine:
        assert Capability.REGEX in engine.info.capabilities


async def test_schema_that_is_no_json_is_refused() -> None:
    error = await failing(FakeServer("vllm"), b"", constraint=Constraint("json_schema", ('{"type',)))
    assert error.code is ErrorCode.INVALID_CONSTRAINT


LLAMA_CONTEXT = {"error": {"code": 400, "message": "request exceeds", "type": "exceed_context_size_error"}}
VLLM_CONTEXT = {"error": {"message": "This model's maximum context length is 10 tokens.", "code": 400}}
OPENAI_CONTEXT = {"error": {"message": "too long", "code": "context_length_exceeded"}}


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (status(400, LLAMA_CONTEXT), ErrorCode.CONTEXT_TOO_LONG),
        (status(400, VLLM_CONTEXT), ErrorCode.CONTEXT_TOO_LONG),
        (status(400, OPENAI_CONTEXT), ErrorCode.CONTEXT_TOO_LONG),
        (status(400, {"object": "error", "message": "bad top_p"}), ErrorCode.INVALID_REQUEST),
        (status(422, "not json at all"), ErrorCode.INVALID_REQUEST),
        (status(401, {"error": "no key"}), ErrorCode.PROVIDER_AUTH),
        (status(404, {}), ErrorCode.UNKNOWN_MODEL),
        (status(429, {}, **{"Retry-After": "7"}), ErrorCode.QUEUE_FULL),
        (status(500, "<html>oops</html>"), ErrorCode.ENGINE_CRASHED),
        (status(503, {"error": {"message": "Loading model"}}), ErrorCode.MODEL_UNAVAILABLE),
    ],
)
async def test_statuses_become_codes(answer: Handler, code: ErrorCode) -> None:
    error = await failing(FakeServer("vllm"), answer)
    assert error.code is code
    assert "oops" not in error.hint
    if code is ErrorCode.QUEUE_FULL:
        assert error.retry_after_s == 7


async def test_refused_constraint_is_named() -> None:
    error = await failing(FakeServer("vllm"), status(400, {"message": "bad pattern"}), constraint=REGEX)
    assert error.code is ErrorCode.INVALID_CONSTRAINT


async def cut_off(request: web.Request) -> web.StreamResponse:
    response = await stream(request, sse(text("half an ans")))
    assert request.transport is not None
    request.transport.abort()
    return response


@pytest.mark.parametrize(
    "answer",
    [
        cut_off,
        sse(text("ends without a reason")),
        sse(text("a"), "{not json"),
        sse(text("a"), '{"choices": 7}'),
        sse(text("a"), {"choices": [{"delta": {}, "finish_reason": "abort"}]}),
        b"data: \xff\xfe\n\n",
        b"<html>a proxy's page</html>",
        b"",
    ],
)
async def test_answer_that_breaks_off_is_no_answer(answer: Handler | bytes) -> None:
    assert (await failing(FakeServer("vllm"), answer)).code is ErrorCode.STREAM_BROKEN


async def test_error_in_mid_stream_is_raised() -> None:
    answer = sse(text("a"), {"error": {"message": "out of memory", "code": 500}})
    assert (await failing(FakeServer("vllm"), answer)).code is ErrorCode.ENGINE_CRASHED


async def test_endless_event_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("weir.common.sse.MAX_EVENT_BYTES", 1000)
    assert (await failing(FakeServer("vllm"), b"data: " + b"x" * 5000)).code is ErrorCode.STREAM_BROKEN


class Endless:
    """An answer without end, which notes that its client has gone."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.gone = asyncio.Event()

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        response = await stream(request, sse(text("tick ")))
        self.reached.set()
        try:
            while True:
                await response.write(sse(text("tick ")))
                await asyncio.sleep(0.001)
        except (ConnectionError, asyncio.CancelledError):
            self.gone.set()
            raise


async def test_closing_the_iterator_closes_the_connection() -> None:
    fake = FakeServer("vllm")
    fake.answer = endless = Endless()
    async with engine_of(fake) as engine:
        steps = engine.generate(request())
        await anext(steps)
        assert engine.load.running == 1
        await steps.aclose()
        assert engine.load.running == 0
        await asyncio.wait_for(endless.gone.wait(), 2)


async def test_cancelled_task_closes_the_connection() -> None:
    fake = FakeServer("vllm")
    fake.answer = endless = Endless()
    async with engine_of(fake) as engine:
        task = asyncio.create_task(collect(engine))
        await endless.reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert engine.load.running == 0
        await asyncio.wait_for(endless.gone.wait(), 2)


async def test_closing_the_engine_ends_what_runs() -> None:
    fake = FakeServer("vllm")
    fake.answer = Endless()
    async with engine_of(fake) as engine:
        steps = engine.generate(request())
        await anext(steps)
        await engine.aclose()
        with pytest.raises(WeirError) as caught:
            async for _ in steps:
                pass
        assert caught.value.code is ErrorCode.SHUTTING_DOWN
        assert await engine.health() is Health.CLOSED
        await engine.aclose()


async def test_health_follows_the_server() -> None:
    fake = FakeServer("vllm")
    async with engine_of(fake) as engine:
        assert await engine.health() is Health.READY
        fake.healthy = 503
        assert await engine.health() is Health.RESTARTING
        fake.healthy = 404
        assert await engine.health() is Health.READY, "the list of models answers"
        await fake.server.close()
        assert await engine.health() is Health.RESTARTING


async def test_stopped_server_is_unavailable() -> None:
    fake = FakeServer("vllm")
    async with engine_of(fake) as engine:
        await fake.server.close()
        with pytest.raises(WeirError) as caught:
            await collect(engine)
    assert caught.value.code is ErrorCode.ENGINE_CRASHED


async def test_start_without_a_server_names_the_setting(unused_tcp_port: int) -> None:
    connection = Connection(f"http://127.0.0.1:{unused_tcp_port}/v1", "")
    engine = OpenAiEngine("m", LocalModel(), connection, max_context=1, start_timeout_s=0.1)
    with pytest.raises(WeirError) as caught:
        await engine.start()
    assert caught.value.code is ErrorCode.MODEL_UNAVAILABLE
    assert "base_url" in caught.value.hint


async def test_start_waits_for_a_server_that_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeServer("vllm")
    loading = [web.Response(status=503)]
    listed = fake._models

    async def models(request: web.Request) -> web.Response:
        return loading.pop() if loading else await listed(request)

    fake.server = TestServer(app := web.Application())
    app.router.add_get("/v1/models", models)
    app.router.add_post("/v1/chat/completions", fake._chat)
    monkeypatch.setattr("weir.engines.openai_compat.engine.START_POLL_S", 0.01)
    async with engine_of(fake):
        assert not loading


async def test_model_that_the_server_lacks_is_named_with_those_it_has() -> None:
    fake = FakeServer("vllm")
    fake.card["id"] = "another"
    with pytest.raises(WeirError) as caught:
        async with engine_of(fake):
            pass
    assert caught.value.code is ErrorCode.MODEL_UNAVAILABLE
    assert "'another'" in caught.value.hint


async def test_missing_settings_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WeirError) as caught:
        openai_compat.create("m", LocalModel(engine="openai"), max_context=1)
    assert "base_url" in caught.value.hint
    monkeypatch.delenv("MY_KEY", raising=False)
    with pytest.raises(WeirError) as caught:
        openai_compat.create("m", LocalModel(base_url="http://h:1/v1", api_key_env="MY_KEY"), max_context=1)
    assert "MY_KEY" in caught.value.hint


async def test_key_is_sent_and_never_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MY_KEY", "very-secret")
    fake = FakeServer("vllm")
    fake.answer = status(401, {"error": "no"})
    async with engine_of(fake, api_key_env="MY_KEY") as engine:
        with pytest.raises(WeirError) as caught:
            await collect(engine)
    assert fake.headers[-1]["Authorization"] == "Bearer very-secret"
    assert "very-secret" not in f"{caught.value!r} {caught.value.hint} {capsys.readouterr()}"


async def test_adapters_are_the_servers() -> None:
    fake = FakeServer("vllm")
    fake.other_cards = [{"id": "legal", "owned_by": "vllm", "parent": "m"}, {"id": "x", "parent": None}]
    async with engine_of(fake) as engine:
        assert engine.info.adapters == ("legal",)
        await collect(engine, adapter="legal")
        assert fake.bodies[-1]["model"] == "legal"
        with pytest.raises(WeirError) as caught:
            await collect(engine, adapter="x")
    assert caught.value.code is ErrorCode.UNKNOWN_ADAPTER


async def test_context_is_the_smaller_of_both() -> None:
    fake = FakeServer("vllm")
    fake.card["max_model_len"] = 100
    async with engine_of(fake) as engine:
        assert engine.info.max_context == 100


ECHO = {
    "tokens": ["token_id:1", "token_id:2", "token_id:3", "token_id:9"],
    "token_logprobs": [None, -0.25, -1.5, -3.0],
    "top_logprobs": [
        None,
        {"token_id:2": -0.25},
        {"token_id:3": -1.5, "token_id:4": -0.5},
        {"token_id:9": -3.0},
    ],
}


async def test_scores_are_those_of_the_continuation() -> None:
    fake = FakeServer("vllm")
    fake.scores = {"choices": [{"logprobs": ECHO}]}
    async with engine_of(fake) as engine:
        scores = await engine.score([1], [2, 3], top=2)
        assert await engine.score([1], []) == []
    assert fake.bodies[-1]["prompt"] == [1, 2, 3]
    assert scores == [
        TokenInfo(2, -0.25, top=(Candidate(2, -0.25),)),
        TokenInfo(3, -1.5, top=(Candidate(4, -0.5), Candidate(3, -1.5))),
    ]


async def test_scores_of_other_tokens_are_refused() -> None:
    fake = FakeServer("vllm")
    fake.scores = {"choices": [{"logprobs": ECHO}]}
    async with engine_of(fake) as engine:
        with pytest.raises(WeirError) as caught:
            await engine.score([1], [7, 3])
    assert caught.value.code is ErrorCode.STREAM_BROKEN


async def test_scoring_needs_a_server_that_can() -> None:
    async with engine_of(FakeServer("llamacpp")) as engine:
        with pytest.raises(WeirError) as caught:
            await engine.score([1], [2])
    assert caught.value.code is ErrorCode.UNSUPPORTED
