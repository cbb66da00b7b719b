"""How the proxy reaches providers: keys, environment proxies, and what is measured of each attempt."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
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
    Proxy,
    Reply,
    ask,
    configured,
    error_reply,
    openai_chunks,
    proxy,
)
from tests.tiny_names import write_tiny_names
from tests.tracing import test_tracing as tracing
from weir.common import conventions as names
from weir.common.config import ConfigError, Settings
from weir.common.errors import ErrorCode
from weir.common.errors.grpc import from_rpc_error
from weir.frontier_proxy import meters
from weir.frontier_proxy.names import NameFinder
from weir.v1 import frontier_proxy_pb2 as pb
from weir.v1 import types_pb2

KEY = "sk-double-0123456789abcdefghij"


@pytest.fixture
async def openai() -> AsyncIterator[ProviderDouble]:
    async with ProviderDouble().running() as double:
        yield double


def using(settings: Settings, **provider: object) -> Settings:
    return configured(settings, frontier={"providers": {"openai": {"kind": "openai", **provider}}})


async def available(running: Proxy) -> set[str]:
    listed = await running.stub.ListModels(pb.ListModelsRequest())
    return {model.model for model in listed.models if model.available}


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


async def test_a_rotated_key_is_used_by_the_next_request_without_a_restart(
    openai: ProviderDouble, settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text("sk-first")
    openai.will(*(Reply([RECORDED["openai"]]) for _ in range(3)))
    async with proxy(using(settings, base_url=openai.url, api_key_file=str(tmp_path / "key"))) as running:
        await running.forward(ask())
        (tmp_path / "key").write_text("sk-second")
        await running.forward(ask())
        (tmp_path / "key").write_text("")
        await running.forward(ask())
    sent = [headers["Authorization"].removeprefix("Bearer ") for headers in openai.headers]
    assert sent == ["sk-first", "sk-second", "sk-second"]


async def test_a_provider_whose_key_file_is_filled_later_answers_without_a_restart(
    openai: ProviderDouble, settings: Settings, tmp_path: Path
) -> None:
    file = tmp_path / "key"
    provider = {"kind": "openai", "base_url": openai.url, "api_key_file": str(file)}
    changed = configured(settings, frontier={"providers": {"openai": provider}, "stand_in": False})
    openai.will(Reply([RECORDED["openai"]]))
    async with proxy(changed) as running:
        with pytest.raises(grpc.aio.AioRpcError, match="needs a key") as caught:
            await running.forward(ask())
        assert from_rpc_error(caught.value).code is ErrorCode.PROVIDER_AUTH
        assert not await available(running)
        file.write_text("sk-late")
        text, _ = await running.forward(ask())
        assert "gpt-4o" in await available(running)
    assert text == ANSWER
    assert [headers["Authorization"] for headers in openai.headers] == ["Bearer sk-late"]


async def test_a_rotated_key_closes_the_circuit_that_the_refused_one_had_opened(
    openai: ProviderDouble, settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text("sk-expired")
    provider = {"kind": "openai", "base_url": openai.url, "api_key_file": str(tmp_path / "key")}
    breaker = {"consecutive_failures": 1}
    changed = configured(settings, frontier={"providers": {"openai": provider}, "circuit_breaker": breaker})
    openai.will(error_reply(401, {"code": "invalid_api_key"}), Reply([RECORDED["openai"]]))
    async with proxy(changed) as running:
        for _ in range(2):
            with pytest.raises(grpc.aio.AioRpcError):
                await running.forward(ask())
        assert len(openai.headers) == 1
        (tmp_path / "key").write_text("sk-renewed")
        text, _ = await running.forward(ask())
    assert text == ANSWER


async def test_names_leave_as_placeholders_and_come_back_in_the_stream(
    openai: ProviderDouble, settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    openai.will(Reply(openai_chunks("Dear [NA", "ME_", "1", "], it is [EMAIL_1]", ".")))
    providers = {"openai": {"kind": "openai", "base_url": openai.url}}
    model = str(write_tiny_names(tmp_path / "names"))
    changed = configured(settings, frontier={"providers": providers, "names_model": model})
    async with proxy(changed) as running:
        request = ask("Tell Ada Lovelace that it is ada@example.org.", residency=types_pb2.RESIDENCY_REDACTED)
        text, _ = await running.forward(request)
    assert text == "Dear Ada Lovelace, it is ada@example.org."
    sent = json.dumps(openai.bodies[0]).lower()
    assert "lovelace" not in sent
    assert "example.org" not in sent


async def test_names_are_looked_for_once_however_many_attempts_a_request_takes(
    openai: ProviderDouble, settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    read: list[str] = []
    find = NameFinder.__call__

    def finding(finder: NameFinder, text: str) -> list[str]:
        read.append(text)
        return find(finder, text)

    monkeypatch.setattr(NameFinder, "__call__", finding)
    openai.will(error_reply(500, {}), Reply(openai_chunks("Dear [NAME_1].")))
    provider = {"kind": "openai", "base_url": openai.url}
    model = str(write_tiny_names(tmp_path / "names"))
    sections = {"providers": {"openai": provider}, "names_model": model, "retries": {"base_delay_s": 0.001}}
    async with proxy(configured(settings, frontier=sections)) as running:
        text, finished = await running.forward(ask("Ada Lovelace in", residency=types_pb2.RESIDENCY_REDACTED))
    assert (text, len(finished.usage)) == ("Dear Ada Lovelace.", 2)
    assert read.count("Ada Lovelace in") == 1


async def test_a_provider_on_a_private_address_stops_the_proxy_from_starting(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with pytest.raises(ConfigError, match="allow_private"):
        async with proxy(using(settings, base_url="https://169.254.169.254/v1", allow_private=False)):
            pass


def core_limits(pid: int) -> list[str]:
    limits = Path(f"/proc/{pid}/limits").read_text().splitlines()
    return next(line.split()[4:6] for line in limits if line.startswith("Max core file size"))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_the_services_own_process_leaves_no_core() -> None:
    environ = {**os.environ, "WEIR_SERVICES__FRONTIER_PROXY__PORT": "0"}
    command = ("sh", "-c", f'ulimit -Sc "$(ulimit -Hc)"; exec {sys.executable} -m weir.frontier_proxy')
    process = await asyncio.create_subprocess_exec(*command, env=environ, stderr=asyncio.subprocess.PIPE)
    assert process.stderr
    try:
        while b"serving" not in (line := await process.stderr.readline()):
            assert line, "the service ended"
        assert core_limits(process.pid) == ["0", "0"]
    finally:
        process.terminate()
        await process.communicate()


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
