"""Connections to providers: verified certificates, HTTP proxies, and networks that they may not lead into."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import socket
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.certificates import Authority
from tests.services.provider_doubles import ANSWER, RECORDED, ProviderDouble, Reply
from weir.common.config import Settings
from weir.common.errors import ErrorCode, WeirError
from weir.engines.base import ChatMessage, Sampling
from weir.frontier_proxy.configured import select
from weir.frontier_proxy.providers.base import Provider, ProviderRequest
from weir.frontier_proxy.providers.http import HttpClient
from weir.frontier_proxy.providers.openai import OpenAIProvider
from weir.frontier_proxy.providers.stand_in import StandInProvider

HOST = "provider.example"
KEY = "sk-double-0123456789abcdefghij"
REQUEST = ProviderRequest("gpt-4o", (ChatMessage("user", "What is a weir?"),), Sampling(max_tokens=9))


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@asynccontextmanager
async def provider(http: HttpClient | None = None, **fields: object) -> AsyncIterator[Provider]:
    """A provider as a configuration makes it."""
    http = http or HttpClient()
    entry = {"kind": "openai", "models": ["gpt-4o"], **fields}
    settings = Settings.model_validate({"frontier": {"providers": {"lab": entry}}})
    selection = select(settings, {"OPENAI_API_KEY": KEY}, http, StandInProvider(["127.0.0.1:1"]))
    await http.start()
    try:
        yield selection.candidates("gpt-4o")[0].provider
    finally:
        await http.aclose()


async def answer(asked: Provider) -> str:
    async with aclosing(asked.stream(REQUEST)) as events:
        return "".join([event.text async for event in events if hasattr(event, "text")])


async def refusal(asked: Provider) -> WeirError:
    with pytest.raises(WeirError) as caught:
        await answer(asked)
    assert caught.value.code is ErrorCode.PROVIDER_FAILED
    return caught.value


@pytest.fixture
def resolved_to(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Addresses that the provider's name has; looking it up for real would leave the machine."""
    addresses: list[str] = []
    real = socket.getaddrinfo

    def lookup(host: str, port: int, *more: Any, **named: Any) -> list[Any]:
        if host != HOST:
            return real(host, port, *more, **named)
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, port, 0, 0))
            if ":" in address
            else (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in addresses
        ]

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    return addresses


@pytest.fixture
async def openai(authority: Authority) -> AsyncIterator[ProviderDouble]:
    """A provider's server with a certificate for its name."""
    async with ProviderDouble().running(authority.server(HOST)) as double:
        yield double


def port(double: ProviderDouble) -> int:
    return urlsplit(double.url).port or 0


class Listener:
    """Accepts connections, says nothing, and counts."""

    def __init__(self) -> None:
        self.accepted = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[int]:
        async def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.accepted += 1
            writer.close()

        async with await asyncio.start_server(accept, "127.0.0.1", 0) as server:
            yield server.sockets[0].getsockname()[1]


class TunnelProxy:
    """An HTTP proxy that knows CONNECT, leads to ``port`` whatever is asked for, and keeps what it saw."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.asked: list[str] = []
        self.heads = self.passed = b""

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.asked.append(head.decode().splitlines()[0])
        self.heads += head
        there, back = await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
        await asyncio.gather(self._copy(reader, back), self._copy(there, writer))

    async def _copy(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while data := await source.read(65_536):
            self.passed += data
            target.write(data)
        target.close()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        async with await asyncio.start_server(self._serve, "127.0.0.1", 0) as server:
            yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize(
    "addresses",
    [["127.0.0.1"], ["::1"], ["169.254.169.254"], ["::ffff:127.0.0.1"], ["127.0.0.1", "10.0.0.7", "::1"]],
)
async def test_a_name_that_leads_into_a_private_network_is_not_connected_to(
    resolved_to: list[str], addresses: list[str]
) -> None:
    resolved_to += addresses
    listener = Listener()
    async with listener.running() as at, provider(base_url=f"https://{HOST}:{at}/v1") as asked:
        assert "frontier.providers.lab.allow_private" in (await refusal(asked)).hint
    assert listener.accepted == 0


@pytest.mark.parametrize("host", ["127.1", "2130706433", "0x7f.1", "0177.0.0.1"])
async def test_an_unusual_spelling_of_a_private_address_is_not_connected_to(host: str) -> None:
    listener = Listener()
    async with listener.running() as at, provider(base_url=f"https://{host}:{at}/v1") as asked:
        await refusal(asked)
    assert listener.accepted == 0


async def test_a_connection_to_a_private_network_serves_no_provider_that_may_not_go_there(
    openai: ProviderDouble, authority: Authority, resolved_to: list[str]
) -> None:
    openai.will(Reply([RECORDED["openai"]]))
    resolved_to.append("127.0.0.1")
    url, bundle, http = f"https://{HOST}:{port(openai)}/v1", str(authority.bundle), HttpClient()
    async with provider(http, base_url=url, ca_bundle=bundle, allow_private=True) as allowed:
        assert await answer(allowed) == ANSWER
        route = dataclasses.replace(allowed.access.route, guarded=True)
        other = OpenAIProvider(dataclasses.replace(allowed.access, route=route), http)
        assert "allow_private" in (await refusal(other)).hint


async def test_a_private_ca_bundle_makes_its_servers_trusted(
    openai: ProviderDouble, authority: Authority, resolved_to: list[str]
) -> None:
    openai.will(Reply([RECORDED["openai"]]))
    resolved_to.append("127.0.0.1")
    url = f"https://{HOST}:{port(openai)}/v1"
    async with provider(base_url=url, allow_private=True, ca_bundle=str(authority.bundle)) as asked:
        assert await answer(asked) == ANSWER
    assert openai.headers[0]["Authorization"] == f"Bearer {KEY}"


async def test_a_certificate_of_an_unknown_authority_is_refused(
    openai: ProviderDouble, resolved_to: list[str]
) -> None:
    resolved_to.append("127.0.0.1")
    async with provider(base_url=f"https://{HOST}:{port(openai)}/v1", allow_private=True) as asked:
        assert "frontier.providers.lab.ca_bundle" in (await refusal(asked)).hint
    assert openai.headers == []


async def test_a_certificate_for_another_name_is_refused(
    openai: ProviderDouble, authority: Authority
) -> None:
    async with provider(base_url=openai.url, allow_private=True, ca_bundle=str(authority.bundle)) as asked:
        assert "certificate" in (await refusal(asked)).hint
    assert openai.headers == []


async def test_a_configured_proxy_tunnels_with_its_password_and_sees_neither_key_nor_prompt(
    openai: ProviderDouble, authority: Authority
) -> None:
    openai.will(Reply([RECORDED["openai"]]))
    tunnel = TunnelProxy(port(openai))
    bundle = str(authority.bundle)
    async with (
        tunnel.running() as address,
        provider(base_url=f"https://{HOST}/v1", ca_bundle=bundle, proxy=f"http://me:word@{address}") as asked,
    ):
        assert await answer(asked) == ANSWER
    assert tunnel.asked == [f"CONNECT {HOST}:443 HTTP/1.1"]
    assert b"Proxy-Authorization: Basic " + base64.b64encode(b"me:word") in tunnel.heads
    assert KEY.encode() not in tunnel.heads + tunnel.passed
    assert "Proxy-Authorization" not in openai.headers[0]
    assert b"weir" not in tunnel.passed


async def test_an_empty_proxy_means_none_whatever_the_environment_says(
    openai: ProviderDouble, authority: Authority, resolved_to: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    openai.will(Reply([RECORDED["openai"]]))
    resolved_to.append("127.0.0.1")
    url, bundle = f"https://{HOST}:{port(openai)}/v1", str(authority.bundle)
    async with provider(base_url=url, ca_bundle=bundle, allow_private=True, proxy="") as asked:
        assert await answer(asked) == ANSWER


async def test_a_proxy_that_fails_is_named_without_its_password(unused_port: int) -> None:
    proxy = f"http://someone:sk-password@127.0.0.1:{unused_port}"
    async with provider(base_url=f"https://{HOST}/v1", proxy=proxy) as asked:
        error = await refusal(asked)
    assert "frontier.providers.lab.proxy" in error.hint
    assert "sk-password" not in repr(vars(error))


async def test_the_end_of_an_answer_waits_for_no_end_of_its_body(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("weir.frontier_proxy.providers.contents._TAIL_S", 3600)
    async with ProviderDouble().running() as double:
        held = double.will(Reply([RECORDED["openai"]], hold=True))
        async with provider(base_url=double.url, allow_private=True) as asked:
            assert await answer(asked) == ANSWER
            assert not held.disconnected.is_set()
        await held.disconnected.wait()


@pytest.fixture
def unused_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
