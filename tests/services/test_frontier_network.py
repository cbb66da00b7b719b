"""How the proxy reaches providers: keys, environment proxies, and what is measured of each attempt."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from tests.services.provider_doubles import (
    ANSWER,
    RECORDED,
    ProviderDouble,
    Reply,
    ask,
    configured,
    error_reply,
    proxy,
)
from tests.tracing import test_tracing as tracing
from weir.common import conventions as names
from weir.common.config import Settings
from weir.frontier_proxy import meters

KEY = "sk-double-0123456789abcdefghij"


@pytest.fixture
async def openai() -> AsyncIterator[ProviderDouble]:
    async with ProviderDouble().running() as double:
        yield double


def using(settings: Settings, **provider: object) -> Settings:
    return configured(settings, frontier={"providers": {"openai": {"kind": "openai", **provider}}})


async def test_a_proxy_of_the_environment_is_used(
    openai: ProviderDouble, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("http_proxy", openai.url.removesuffix("/v1"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    openai.will(Reply([RECORDED["openai"]]))
    async with proxy(using(settings, base_url="http://provider.invalid/v1")) as running:
        text, _ = await running.forward(ask())
    assert text == ANSWER
    assert openai.headers[0]["Host"] == "provider.invalid"


async def test_a_netrc_file_does_not_replace_the_key(
    openai: ProviderDouble, settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login someone password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    openai.will(Reply([RECORDED["openai"]]))
    async with proxy(using(settings, base_url=openai.url)) as running:
        await running.forward(ask())
    assert openai.headers[0]["Authorization"] == f"Bearer {KEY}"


async def test_a_key_may_come_from_a_file_or_a_named_variable(
    openai: ProviderDouble, settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text("sk-from-file\n")
    monkeypatch.setenv("TEAM_KEY", "sk-from-variable")
    for source in ({"api_key_file": str(tmp_path / "key")}, {"api_key_env": "TEAM_KEY"}):
        openai.will(Reply([RECORDED["openai"]]))
        async with proxy(using(settings, base_url=openai.url, **source)) as running:
            await running.forward(ask())
    assert [h["Authorization"] for h in openai.headers] == ["Bearer sk-from-file", "Bearer sk-from-variable"]


async def test_a_redirect_is_not_followed_with_the_key(
    openai: ProviderDouble, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    moved = {"Location": f"{openai.url}/elsewhere"}
    openai.will(Reply(status=307, headers=moved), Reply([RECORDED["openai"]]))
    async with proxy(using(settings, base_url=openai.url)) as running:
        _, finished = await running.forward(ask())
    assert openai.paths == ["/v1/chat/completions"] * 2
    assert len(finished.usage) == 2


async def test_each_attempt_has_its_span_and_its_metrics(
    openai: ProviderDouble, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracing().add_span_processor(SimpleSpanProcessor(exporter))
    made = meters.Instruments(MeterProvider([reader]).get_meter("test"))
    monkeypatch.setattr(meters, "instruments", lambda: made)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    openai.will(error_reply(500, {"type": "server_error"}), Reply([RECORDED["openai"]]))
    async with proxy(using(settings, base_url=openai.url)) as running:
        await running.forward(ask())
    failed, good = (span for span in exporter.get_finished_spans() if span.name == "chat gpt-4o")
    assert failed.status.status_code is StatusCode.ERROR
    assert (failed.attributes or {})[names.ERROR_TYPE] == "PROVIDER_FAILED"
    assert good.kind is SpanKind.CLIENT
    assert good.parent is not None
    assert failed.parent is not None
    assert good.parent.span_id == failed.parent.span_id
    attributes = dict(good.attributes or {})
    assert attributes[names.PROVIDER] == "openai"
    assert (attributes[names.INPUT_TOKENS], attributes[names.OUTPUT_TOKENS]) == (25, 14)
    assert attributes[names.COST_USD] == pytest.approx((17 * 2.5 + 8 * 1.25 + 14 * 10) / 1e6)
    data = reader.get_metrics_data()
    assert data is not None
    measured = {
        metric.name
        for part in data.resource_metrics
        for scope in part.scope_metrics
        for metric in scope.metrics
    }
    assert measured >= {
        names.CLIENT_TOKEN_USAGE,
        names.CLIENT_DURATION,
        names.CLIENT_FIRST_CHUNK,
        names.FRONTIER_ATTEMPTS,
        names.FRONTIER_COST,
    }
