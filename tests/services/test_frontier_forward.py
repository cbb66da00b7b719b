"""Forward as a whole: errors, fallback, cancellation, money, residency and secrets."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncIterator

import grpc
import pytest
import structlog

from tests.services.provider_doubles import (
    ANSWER,
    RECORDED,
    ProviderDouble,
    Proxy,
    Reply,
    ask,
    configured,
    error_reply,
    openai_chunks,
    proxy,
)
from weir.common.config import ConfigError, Settings
from weir.common.errors import ErrorCode, WeirError
from weir.common.errors.grpc import from_rpc_error
from weir.v1 import frontier_proxy_pb2 as pb
from weir.v1 import types_pb2

KEY = "sk-double-0123456789abcdefghij"


@pytest.fixture
async def first() -> AsyncIterator[ProviderDouble]:
    async with ProviderDouble().running() as double:
        yield double


@pytest.fixture
async def second() -> AsyncIterator[ProviderDouble]:
    async with ProviderDouble().running() as double:
        yield double


@pytest.fixture
def one(first: ProviderDouble, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings with OpenAI alone."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    return configured(settings, frontier={"providers": {"openai": {"kind": "openai", "base_url": first.url}}})


@pytest.fixture
def two(
    first: ProviderDouble, second: ProviderDouble, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> Settings:
    """Settings with OpenAI first and Anthropic as its fallback."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-double")
    providers = {
        "openai": {"kind": "openai", "base_url": first.url, "models": ["gpt-4o"]},
        "anthropic": {"kind": "anthropic", "base_url": second.url, "models": ["claude-haiku-4-5"]},
    }
    return configured(settings, frontier={"providers": providers})


def money(settings: Settings, budgets: dict[str, float]) -> Settings:
    return configured(settings, frontier={**settings.frontier.model_dump(), "budgets_usd": budgets})


def paced(settings: Settings, **limits: float) -> Settings:
    frontier = settings.frontier.model_dump()
    frontier["providers"]["openai"] |= limits
    return configured(settings, frontier=frontier)


async def failure(running: Proxy, request: pb.ForwardRequest, tenant: str = "") -> WeirError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await running.forward(request, tenant=tenant)
    return from_rpc_error(caught.value)


async def settled(running: Proxy) -> dict[str, float]:
    spend = (await running.stub.GetSpend(pb.GetSpendRequest())).spend
    assert all(row.reserved_usd == 0 for row in spend)
    return {row.model: row.settled_usd for row in spend}


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (401, "invalid_api_key", ErrorCode.PROVIDER_AUTH),
        (403, "permission_error", ErrorCode.PROVIDER_AUTH),
        (400, "invalid_request_error", ErrorCode.PROVIDER_REJECTED),
        (404, "model_not_found", ErrorCode.PROVIDER_REJECTED),
        (429, "insufficient_quota", ErrorCode.PROVIDER_AUTH),
    ],
)
async def test_a_refusal_is_named_and_not_tried_again(
    first: ProviderDouble, one: Settings, status: int, kind: str, code: ErrorCode
) -> None:
    first.will(error_reply(status, {"type": kind, "message": f"{KEY} said so"}))
    async with proxy(one) as running:
        error = await failure(running, ask())
        assert await settled(running) == {"gpt-4o": 0}
    assert error.code is code
    assert kind in error.hint
    assert KEY not in error.hint


async def test_a_rate_limit_carries_the_providers_delay(first: ProviderDouble, one: Settings) -> None:
    first.will(error_reply(429, {"type": "rate_limit_error"}, retry_after="7"))
    async with proxy(one) as running:
        limited = await failure(running, ask())
        again = await failure(running, ask())
    assert limited.code is ErrorCode.RATE_LIMITED
    assert limited.retry_after_s == 7
    assert again.code is ErrorCode.RATE_LIMITED
    assert len(first.bodies) == 1, "the provider is left alone meanwhile"
    assert again.retry_after_s is not None
    assert 0 < again.retry_after_s <= 7


async def test_a_failure_before_the_first_text_falls_back_and_all_attempts_are_told(
    first: ProviderDouble, second: ProviderDouble, two: Settings
) -> None:
    first.will(*(error_reply(503, {"type": "server_error"}) for _ in range(2)))
    second.will(Reply([RECORDED["anthropic"]]))
    async with proxy(two) as running:
        text, finished = await running.forward(ask())
        spent = await settled(running)
    assert text == ANSWER
    assert [(u.model, u.cost_usd > 0) for u in finished.usage] == [
        ("gpt-4o", False),
        ("gpt-4o", False),
        ("claude-haiku-4-5", True),
    ]
    assert sum(spent.values()) == pytest.approx(sum(u.cost_usd for u in finished.usage), abs=1e-12)


async def test_the_only_candidate_is_tried_once_more(first: ProviderDouble, one: Settings) -> None:
    first.will(error_reply(500, {"type": "server_error"}), Reply([RECORDED["openai"]]))
    async with proxy(one) as running:
        text, finished = await running.forward(ask())
    assert text == ANSWER
    assert len(finished.usage) == 2


async def test_a_named_model_is_never_replaced_by_another(first: ProviderDouble, two: Settings) -> None:
    first.will(error_reply(401, {"type": "invalid_api_key"}))
    async with proxy(two) as running:
        error = await failure(running, ask(model="gpt-4o"))
    assert error.code is ErrorCode.PROVIDER_AUTH


async def test_an_unreachable_provider_is_a_failure(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    async with ProviderDouble().running() as gone:
        url = gone.url
    providers = {"openai": {"kind": "openai", "base_url": url}}
    async with proxy(configured(settings, frontier={"providers": providers})) as running:
        error = await failure(running, ask())
    assert error.code is ErrorCode.PROVIDER_FAILED
    assert url not in str(error)


@pytest.mark.parametrize("cut", [True, False])
async def test_a_stream_that_breaks_after_text_says_so_and_is_priced(
    first: ProviderDouble, second: ProviderDouble, two: Settings, cut: bool
) -> None:
    first.will(Reply(openai_chunks("A weir ", "holds", finish=None), cut=cut))
    frontier = {**two.frontier.model_dump(), "after_first_text": "fail"}
    async with proxy(configured(two, frontier=frontier)) as running:
        error = await failure(running, ask())
        spent = await settled(running)
    assert error.code is ErrorCode.STREAM_BROKEN
    assert float(error.metadata["cost_usd"]) == pytest.approx(spent["gpt-4o"], abs=1e-9)
    assert spent["gpt-4o"] > 0
    assert not second.bodies


async def test_a_silent_provider_is_given_up_before_the_first_text(
    first: ProviderDouble, second: ProviderDouble, two: Settings
) -> None:
    silent = first.will(Reply([b": keep-alive\n\n"], hold=True))
    second.will(Reply([RECORDED["anthropic"]]))
    async with proxy(paced(two, first_token_timeout_s=0.1)) as running:
        text, finished = await running.forward(ask())
    assert text == ANSWER
    assert finished.usage[0].cost_usd > 0, "an accepted prompt may be charged"
    await silent.disconnected.wait()


async def test_a_stream_that_stalls_between_texts_is_broken_off(first: ProviderDouble, one: Settings) -> None:
    stalled = first.will(Reply(openai_chunks("A weir", finish=None), hold=True))
    async with proxy(paced(one, inter_token_timeout_s=0.1)) as running:
        error = await failure(running, ask())
    assert error.code is ErrorCode.STREAM_BROKEN
    await stalled.disconnected.wait()


async def test_a_cancelled_call_closes_the_providers_stream_and_is_priced(
    first: ProviderDouble, one: Settings
) -> None:
    held = first.will(Reply(openai_chunks("A weir", finish=None), hold=True))
    async with proxy(one) as running:
        call = running.stub.Forward(ask())
        async for response in call:
            assert response.delta.text == "A weir"
            break
        call.cancel()
        async with asyncio.timeout(2):
            await held.disconnected.wait()
        async with asyncio.timeout(2):
            while not (await settled_or_none(running)):  # noqa: ASYNC110 - the ledger has no event to wait on
                await asyncio.sleep(0.01)
        assert (await settled(running))["gpt-4o"] > 0


async def settled_or_none(running: Proxy) -> bool:
    spend = (await running.stub.GetSpend(pb.GetSpendRequest())).spend
    return bool(spend) and not spend[0].reserved_usd


async def test_a_passed_deadline_closes_the_providers_stream(first: ProviderDouble, one: Settings) -> None:
    held = first.will(Reply(openai_chunks("A weir", finish=None), hold=True))
    async with proxy(one) as running:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await running.forward(ask(), timeout=0.5)
        async with asyncio.timeout(2):
            await held.disconnected.wait()
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_local_only_is_refused_and_nothing_is_sent(first: ProviderDouble, one: Settings) -> None:
    async with proxy(one) as running:
        error = await failure(running, ask(residency=types_pb2.RESIDENCY_LOCAL_ONLY))
    assert error.code is ErrorCode.RESIDENCY_FORBIDDEN
    assert not first.bodies


async def test_an_unstated_residency_is_the_configured_one(first: ProviderDouble, one: Settings) -> None:
    async with proxy(configured(one, routing={"default_residency": "local_only"})) as running:
        error = await failure(running, ask())
    assert error.code is ErrorCode.RESIDENCY_FORBIDDEN
    assert not first.bodies


async def test_redacted_data_never_leaves_and_comes_back_in_the_answer(
    first: ProviderDouble, one: Settings
) -> None:
    first.will(Reply(openai_chunks("Write to [EMA", "IL_1", "] or [PHONE_1", "], not [EMAIL_9].")))
    async with proxy(one) as running:
        text, _ = await running.forward(
            ask(
                "Mail ada@example.org, call +44 20 7946 0958.",
                residency=types_pb2.RESIDENCY_REDACTED,
                continue_from="ada@example.org: ",
            )
        )
    sent = str(first.bodies)
    assert text == "Write to ada@example.org or +44 20 7946 0958, not [EMAIL_9]."
    assert "ada@example.org" not in sent
    assert "7946" not in sent
    assert sent.count("[EMAIL_1]") == 3, "the prompt, what was sent before, and the notice"


@pytest.mark.parametrize("again", ["", "Her number: [PHONE_1]"])
async def test_half_a_number_that_stands_does_not_leave_and_is_completed(
    first: ProviderDouble, one: Settings, again: str
) -> None:
    first.will(Reply(openai_chunks(f"{again}.", " Bye.")))
    async with proxy(one) as running:
        text, _ = await running.forward(
            ask(
                "Ada has +44 20 7946 0958.",
                residency=types_pb2.RESIDENCY_REDACTED,
                continue_from="Her number: +44 20 79",
            )
        )
    assert text == "46 0958. Bye."
    assert "+44" not in str(first.bodies)
    assert first.bodies[0]["messages"][-2]["content"] == "Her number: [PHONE_1]"


async def test_the_cost_limit_lowers_the_length_and_the_cut_is_told(
    first: ProviderDouble, one: Settings
) -> None:
    first.will(Reply(openai_chunks("A weir", finish="length")))
    async with proxy(one) as running:
        _, finished = await running.forward(ask(max_cost_usd=0.002))
    allowed = first.bodies[0]["max_completion_tokens"]
    assert 1 <= allowed < 1024
    assert finished.finish_reason == types_pb2.FINISH_REASON_BUDGET
    assert sum(usage.cost_usd for usage in finished.usage) <= 0.002


async def test_a_prompt_above_the_cost_limit_is_not_sent(first: ProviderDouble, one: Settings) -> None:
    async with proxy(one) as running:
        error = await failure(running, ask(max_cost_usd=0.00001))
    assert error.code is ErrorCode.COST_LIMIT
    assert not first.bodies


async def test_a_budget_is_refused_before_it_is_passed(first: ProviderDouble, one: Settings) -> None:
    first.will(Reply([RECORDED["openai"]]))
    async with proxy(money(one, {"acme": 0.02, "": 0.0})) as running:
        await running.forward(ask(), tenant="acme")
        request = ask()
        request.prompt.sampling.max_tokens = 2000
        error = await failure(running, request, tenant="acme")
        nameless = await failure(running, ask())
        (row,) = (await running.stub.GetSpend(pb.GetSpendRequest(tenant="acme"))).spend
    assert error.code is ErrorCode.BUDGET_EXHAUSTED
    assert nameless.code is ErrorCode.BUDGET_EXHAUSTED
    assert (row.tenant, row.model, row.budget_usd) == ("acme", "gpt-4o", 0.02)
    assert 0 < row.settled_usd <= 0.02
    assert len(first.bodies) == 1


async def test_an_unknown_model_names_the_known_ones(one: Settings) -> None:
    async with proxy(one) as running:
        error = await failure(running, ask(model="gpt-nine"))
    assert error.code is ErrorCode.UNKNOWN_MODEL
    assert "gpt-4o-mini" in error.hint


async def test_a_model_whose_key_is_missing_says_which(one: Settings, settings: Settings) -> None:
    async with proxy(settings) as running:
        error = await failure(running, ask(model="claude-haiku-4-5"))
    assert error.code is ErrorCode.PROVIDER_AUTH
    assert "ANTHROPIC_API_KEY" in error.hint


@pytest.mark.parametrize(
    ("change", "code", "path"),
    [
        (lambda r: r.prompt.ClearField("messages"), ErrorCode.INVALID_PROMPT, "prompt.messages"),
        (
            lambda r: r.prompt.sampling.MergeFrom(types_pb2.SamplingParams(temperature=math.nan)),
            ErrorCode.INVALID_SAMPLING,
            "prompt.sampling.temperature",
        ),
        (lambda r: setattr(r, "max_cost_usd", math.nan), ErrorCode.INVALID_POLICY, "max_cost_usd"),
        (lambda r: setattr(r, "residency", 9), ErrorCode.INVALID_POLICY, "residency"),
        (
            lambda r: setattr(r.prompt.output, "json_schema", "[1"),
            ErrorCode.INVALID_CONSTRAINT,
            "prompt.output.json_schema",
        ),
    ],
)
async def test_a_bad_request_names_its_field(
    one: Settings, change: object, code: ErrorCode, path: str
) -> None:
    request = ask()
    change(request)  # type: ignore[operator]
    async with proxy(one) as running:
        error = await failure(running, request)
    assert error.code is code
    assert path in error.fields


async def test_a_constraint_that_no_provider_holds_is_unsupported(
    first: ProviderDouble, one: Settings
) -> None:
    request = ask()
    request.prompt.output.regex = "[ab]+"
    async with proxy(one) as running:
        error = await failure(running, request)
    assert error.code is ErrorCode.UNSUPPORTED
    assert not first.bodies


async def test_a_prompt_past_the_models_context_is_refused(first: ProviderDouble, one: Settings) -> None:
    async with proxy(configured(one, tiers={"frontier": {"max_context": 100}})) as running:
        error = await failure(running, ask("word " * 200))
    assert error.code is ErrorCode.CONTEXT_TOO_LONG
    assert not first.bodies


async def test_keys_are_in_no_log_and_no_error(
    first: ProviderDouble, one: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    first.will(
        error_reply(401, {"type": "invalid_api_key", "message": f"Incorrect API key provided: {KEY}"}),
        error_reply(500, {"code": KEY}),
        Reply([b"data: not json " + KEY.encode() + b"\n\n"]),
    )
    with structlog.testing.capture_logs() as logs, caplog.at_level(logging.DEBUG):
        async with proxy(one) as running:
            errors = [await failure(running, ask()) for _ in range(2)]
    said = [repr(error) + str(error.metadata) + error.hint for error in errors]
    assert KEY not in f"{said} {logs} {caplog.text}"
    assert "Bearer" not in caplog.text


async def test_models_are_listed_with_prices_and_the_default_first(two: Settings) -> None:
    async with proxy(two) as running:
        models = (await running.stub.ListModels(pb.ListModelsRequest())).models
    assert [(m.model, m.provider, m.available, m.stand_in) for m in models] == [
        ("gpt-4o", "openai", True, False),
        ("claude-haiku-4-5", "anthropic", True, False),
    ]
    assert (models[0].input_usd_per_million, models[0].output_usd_per_million) == (2.5, 10)
    assert models[0].max_context == 128_000


@pytest.mark.parametrize(
    ("sections", "says"),
    [
        ({"tiers": {"frontier": {"model_id": "gpt-nine"}}}, "frontier.prices.gpt-nine"),
        ({"tiers": {"frontier": {"provider": "openia"}}}, "openai"),
        (
            {"frontier": {"providers": {"lab": {"kind": "openai_compatible", "models": ["gpt-4o"]}}}},
            "base_url",
        ),
        (
            {"frontier": {"providers": {"openai": {"kind": "openai", "api_key_file": "nowhere/key"}}}},
            "api_key_file",
        ),
        ({"frontier": {"providers": {"openai": {"kind": "openai", "prefill": True}}}}, "prefill"),
    ],
)
async def test_a_configuration_that_cannot_work_says_what_to_write(
    settings: Settings, sections: dict[str, object], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        async with proxy(configured(settings, **sections)):
            pass
