"""Which addresses count as the public internet, and which ways to a provider a configuration may ask for."""

from __future__ import annotations

import ipaddress
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.common.config import ConfigError
from weir.common.config.frontier import Provider
from weir.frontier_proxy.network import PrivateAddressError, Route, is_public, public_socket, route_to

PRIVATE = [
    "127.0.0.1", "127.255.0.9", "0.0.0.0", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1",  # noqa: S104
    "169.254.169.254", "100.64.0.1", "100.100.100.200", "168.63.129.16", "192.0.0.192", "198.18.0.1",
    "224.0.0.1", "240.0.0.1", "255.255.255.255", "203.0.113.7",
    "::1", "::", "fe80::1", "fec0::1", "fe80::1%eth0", "fd00:ec2::254", "ff02::1", "2001:db8::1",
    "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::7f00:1", "2002:7f00:1::", "2002:c0a8:101::1",
]  # fmt: skip
PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "172.32.0.1",
    "100.128.0.1",
    "2606:4700::1111",
    "::ffff:8.8.8.8",
    "64:ff9b::808:808",
]


@pytest.mark.parametrize("address", PRIVATE)
def test_special_networks_are_not_public(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", PUBLIC)
def test_the_internet_is_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_inside_an_ipv6_one_counts_as_itself(address: ipaddress.IPv4Address) -> None:
    value = int(address)
    forms = (0xFFFF << 32 | value, 0x64FF9B << 96 | value, 0x2002 << 112 | value << 80)
    inside = {is_public(ipaddress.IPv6Address(form)) for form in forms}
    assert inside == {is_public(address)}


def test_no_socket_is_opened_to_a_private_address() -> None:
    for family, target in ((socket.AF_INET, ("127.0.0.1", 443)), (socket.AF_INET6, ("::1", 443, 0, 0))):
        with pytest.raises(PrivateAddressError):
            public_socket((family, socket.SOCK_STREAM, 0, "", target))
    with public_socket((socket.AF_INET, socket.SOCK_STREAM, 0, "", ("1.1.1.1", 443))) as opened:
        assert opened.family == socket.AF_INET


def route(base_url: str, **fields: object) -> Route:
    settings = Provider.model_validate({"kind": "openai_compatible", "base_url": base_url, **fields})
    return route_to("lab", settings, base_url)


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1:8000/v1",
        "https://10.0.0.7/v1",
        "https://[::1]/v1",
        "https://[::ffff:10.0.0.7]/v1",
        "http://169.254.169.254/latest",
        "https://localhost/v1",
        "https://LOCALHOST./v1",
        "https://model.localhost/v1",
        "https://metadata.google.internal/v1",
    ],
)
def test_a_private_address_needs_to_be_allowed(url: str) -> None:
    with pytest.raises(ConfigError, match=r"frontier\.providers\.lab\.base_url.*allow_private"):
        route(url)
    assert not route(url, allow_private=True).guarded


def test_an_unencrypted_address_needs_to_be_allowed() -> None:
    with pytest.raises(ConfigError, match="not encrypted"):
        route("http://api.example.org/v1")
    assert route("https://api.example.org/v1").guarded


@pytest.mark.parametrize(
    "url", ["api.example.org/v1", "ftp://example.org", "https://", "https://[::1", "https://h:x/"]
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="is not an address"):
        route(url)


def test_a_key_inside_the_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(ConfigError, match="api_key_file") as caught:
        route("https://user:sk-secret@api.example.org/v1")
    assert "sk-secret" not in str(caught.value)


def test_the_configured_proxy_goes_before_the_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://from.environment:3128")
    monkeypatch.setenv("no_proxy", "")
    url = "https://api.example.org/v1"
    assert route(url).proxy == "http://from.environment:3128"
    assert route(url, proxy="proxy.example.org:8080").proxy == "http://proxy.example.org:8080"
    assert route(url, proxy="").proxy is None
    assert route(url, proxy="").guarded


def test_hosts_that_the_environment_excepts_are_reached_directly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://from.environment:3128")
    monkeypatch.setenv("no_proxy", "example.org")
    assert route("https://api.example.org/v1").proxy is None


@pytest.mark.parametrize(
    "proxy", ["socks5://user:sk-secret@proxy:1080", "http://", "http://user:sk-secret@h:x"]
)
def test_a_proxy_that_speaks_no_http_is_refused_and_its_password_not_shown(proxy: str) -> None:
    with pytest.raises(ConfigError, match=r"providers\.lab\.proxy") as caught:
        route("https://api.example.org/v1", proxy=proxy)
    assert "sk-secret" not in str(caught.value)


def test_a_proxys_password_is_in_no_repr() -> None:
    assert "sk-secret" not in repr(route("https://api.example.org", proxy="http://user:sk-secret@proxy:1"))


def test_a_bundle_without_certificates_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bundle.pem").write_text("not a certificate")
    for path in (tmp_path / "bundle.pem", tmp_path / "missing.pem"):
        with pytest.raises(ConfigError, match="ca_bundle"):
            route("https://api.example.org/v1", ca_bundle=path)


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux about itself")
def test_a_crash_of_the_proxys_process_leaves_no_core() -> None:
    told = """
import ctypes, resource
from weir.frontier_proxy.cores import forbid_core_dumps
forbid_core_dumps()
print(resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))
"""
    command = f'ulimit -Sc "$(ulimit -Hc)"; exec {sys.executable} -c "$0"'
    done = subprocess.run(["sh", "-c", command, told], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "(0, 0) 0"
