"""Circuits of a running proxy: who is asked once a provider fails, and how it comes back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

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
from weir.common.config import Settings
from weir.v1 import frontier_proxy_pb2 as pb

pytestmark = pytest.mark.usefixtures("_keys")


@pytest.fixture
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-double")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-double")


@pytest.fixture
async def first() -> AsyncIterator[ProviderDouble]:
    async with ProviderDouble().running() as double:
        yield double


@pytest.fixture
async def second() -> AsyncIterator[ProviderDouble]:
    async with ProviderDouble().running() as double:
        yield double


def two(settings: Settings, first: ProviderDouble, second: ProviderDouble, **breaker: Any) -> Settings:
    """OpenAI first and Anthropic as its fallback; nothing is tried twice."""
    providers = {
        "openai": {"kind": "openai", "base_url": first.url, "models": ["gpt-4o"]},
        "anthropic": {"kind": "anthropic", "base_url": second.url, "models": ["claude-haiku-4-5"]},
    }
    frontier = {"providers": providers, "retries": {"per_model": 0}, "circuit_breaker": breaker}
    return configured(settings, frontier=frontier)


async def circuit(running: Proxy) -> pb.FrontierModel:
    models = (await running.stub.ListModels(pb.ListModelsRequest())).models
    return next(model for model in models if model.model == "gpt-4o")


async def until_half_open(running: Proxy) -> None:
    async with asyncio.timeout(10):
        while (await circuit(running)).circuit != pb.CIRCUIT_HALF_OPEN:
            pass


async def test_a_model_that_keeps_failing_is_no_longer_asked_and_is_shown_so(
    first: ProviderDouble, second: ProviderDouble, settings: Settings
) -> None:
    first.will(*(error_reply(503, {"type": "server_error"}) for _ in range(2)))
    second.will(*(Reply([RECORDED["anthropic"]]) for _ in range(3)))
    async with proxy(two(settings, first, second, consecutive_failures=2)) as running:
        assert (await circuit(running)).circuit == pb.CIRCUIT_CLOSED
        texts = [(await running.forward(ask()))[0] for _ in range(3)]
        shown = await circuit(running)
    assert texts == [ANSWER] * 3
    assert len(first.bodies) == 2
    assert (shown.circuit, shown.available) == (pb.CIRCUIT_OPEN, False)


async def test_streams_that_break_behind_their_first_text_open_the_circuit_too(
    first: ProviderDouble, second: ProviderDouble, settings: Settings
) -> None:
    first.will(*(Reply(openai_chunks("Ein", finish=None), cut=True) for _ in range(2)))
    second.will(*(Reply([RECORDED["anthropic"]]) for _ in range(3)))
    async with proxy(two(settings, first, second, consecutive_failures=2)) as running:
        for _ in range(3):
            await running.forward(ask())
        assert (await circuit(running)).circuit == pb.CIRCUIT_OPEN
    assert len(first.bodies) == 2


async def test_slow_first_texts_open_the_circuit_although_every_answer_is_good(
    first: ProviderDouble, second: ProviderDouble, settings: Settings
) -> None:
    first.will(*(Reply(openai_chunks("Ein Wehr.")) for _ in range(2)))
    second.will(Reply([RECORDED["anthropic"]]))
    # No first text can be as fast as this.
    slow = {"slow_first_token_s": 1e-9, "min_calls": 2}
    async with proxy(two(settings, first, second, **slow)) as running:
        texts = [(await running.forward(ask()))[0] for _ in range(3)]
    assert texts == ["Ein Wehr.", "Ein Wehr.", ANSWER]


async def test_good_probes_bring_a_model_back(
    first: ProviderDouble, second: ProviderDouble, settings: Settings
) -> None:
    first.will(error_reply(503, {"type": "server_error"}), *(Reply(openai_chunks("Da.")) for _ in range(2)))
    second.will(Reply([RECORDED["anthropic"]]))
    brief = {"consecutive_failures": 1, "open_s": 0.05, "probes": 2}
    async with proxy(two(settings, first, second, **brief)) as running:
        await running.forward(ask())
        await until_half_open(running)
        states = [(await circuit(running)).circuit]
        for _ in range(2):
            assert (await running.forward(ask()))[0] == "Da."
            states.append((await circuit(running)).circuit)
    assert states == [pb.CIRCUIT_HALF_OPEN, pb.CIRCUIT_HALF_OPEN, pb.CIRCUIT_CLOSED]


async def test_half_open_others_are_not_kept_waiting_for_the_probe(
    first: ProviderDouble, second: ProviderDouble, settings: Settings
) -> None:
    silent = Reply(hold=True)
    first.will(error_reply(503, {"type": "server_error"}), silent)
    second.will(*(Reply([RECORDED["anthropic"]]) for _ in range(2)))
    brief = {"consecutive_failures": 1, "open_s": 0.05}
    async with proxy(two(settings, first, second, **brief)) as running:
        await running.forward(ask())
        await until_half_open(running)
        probe = running.stub.Forward(ask(), timeout=20)
        reading = asyncio.create_task(probe.read())
        await silent.sent.wait()
        assert (await running.forward(ask()))[0] == ANSWER
        probe.cancel()
        await silent.disconnected.wait()
        await asyncio.wait([reading])
    assert len(first.bodies) == 2


async def test_a_client_that_leaves_is_no_mark_against_the_provider(
    first: ProviderDouble, second: ProviderDouble, settings: Settings
) -> None:
    replies = [Reply(openai_chunks("Ein", finish=None), hold=True) for _ in range(3)]
    first.will(*replies)
    async with proxy(two(settings, first, second, consecutive_failures=1, min_calls=1)) as running:
        for reply in replies:
            call = running.stub.Forward(ask(), timeout=20)
            await call.read()
            call.cancel()
            await reply.disconnected.wait()
        assert (await circuit(running)).circuit == pb.CIRCUIT_CLOSED
