"""The way to a provider: which addresses may be connected to, through which HTTP proxy, and whom to trust."""

from __future__ import annotations

import errno
import ipaddress
import socket
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies, proxy_bypass

from weir.common.config import ConfigError
from weir.common.config.frontier import Provider

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
SocketAddress = tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int]]

# RFC 6052: an IPv4 address in the last four bytes, reached through a translator.
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
# Not public although not every Python's tables say so: IETF assignments (Oracle's metadata service), Azure's
# wire server, which hands out credentials on an address that looks public, and IPv6's former site-local ones.
_NOT_PUBLIC = tuple(map(ipaddress.ip_network, ("192.0.0.0/24", "168.63.129.16/32", "fec0::/10")))


class PrivateAddressError(OSError):
    """A connection would have led to an address that is not on the public internet."""

    def __init__(self) -> None:
        # The same words for every address: several refusals of one name then stay this error.
        super().__init__(errno.EACCES, "not an address of the public internet")


@dataclass(frozen=True, slots=True)
class Route:
    """How a provider is reached.

    ``proxy`` is an HTTP proxy's address, which may hold a password. ``guarded``: only addresses of the public
    internet are connected to. ``tls`` is set where a CA bundle is trusted beside the system's certificates.
    """

    proxy: str | None = field(default=None, repr=False)
    guarded: bool = True
    tls: ssl.SSLContext | None = field(default=None, repr=False)


DIRECT = Route()


def route_to(name: str, provider: Provider, base_url: str) -> Route:
    """Return the way to ``base_url``, checked as far as it can be without looking names up.

    Behind an HTTP proxy it is the proxy that looks names up, and that decides which networks it leads into.

    Raises:
        ConfigError: an address that is none, that is not encrypted or private without ``allow_private``, a
            proxy or a CA bundle that cannot be used.
    """
    path = f"frontier.providers.{name}"
    parts = _checked_url(f"{path}.base_url", base_url)
    if not provider.allow_private:
        if _is_private_name(parts.hostname or ""):
            raise ConfigError(f"{path}.base_url leads into a private network; {_allow(path)}")
        if parts.scheme != "https":
            raise ConfigError(f"{path}.base_url is not encrypted: write https, or {_allow(path)}")
    proxy = provider.proxy if provider.proxy is not None else environment_proxy(base_url)
    proxy = _checked_proxy(name, proxy) if proxy else None
    guarded = not provider.allow_private and proxy is None
    return Route(proxy, guarded, trusting(path, provider.ca_bundle) if provider.ca_bundle else None)


def _allow(path: str) -> str:
    return f"set {path}.allow_private where the server is in a network of your own."


def _checked_url(path: str, url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ConfigError(f"{path} is not an address; write one such as https://host/v1.")
    if parts.username is not None:
        raise ConfigError(f"{path} holds a user name; keys belong into api_key_env or api_key_file.")
    return parts


def environment_proxy(url: str) -> str | None:
    """Return the proxy that ``HTTPS_PROXY``, ``HTTP_PROXY``, ``ALL_PROXY`` and ``NO_PROXY`` name for ``url``.

    aiohttp's own ``trust_env`` would also read ``~/.netrc`` and replace the provider's key by what it finds.
    """
    parts = urlsplit(url)
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    return None if not proxy or proxy_bypass(parts.netloc) else proxy


def _checked_proxy(name: str, proxy: str) -> str:
    """Return the proxy's address with its scheme. It may hold a password, so no error shows it."""
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    try:
        parts = urlsplit(proxy)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ConfigError(
            f"frontier.providers.{name}.proxy, or the environment's proxy, is not one that speaks HTTP; "
            'write http://host:port, or "" for none.'
        )
    return proxy


def trusting(path: str, bundle: Path) -> ssl.SSLContext:
    """Return a context that trusts the certificates of ``bundle`` (PEM) beside the system's.

    Raises:
        ConfigError: a file that cannot be read or holds no certificate.
    """
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_verify_locations(cafile=str(bundle))
    except OSError:  # SSLError is one
        hint = f"{path}.ca_bundle: {bundle} holds no certificate that can be read"
        raise ConfigError(f"{hint}; give the path of a file in PEM form.") from None
    return context


def _is_private_name(host: str) -> bool:
    host = host.rstrip(".").lower()
    try:
        return not is_public(ipaddress.ip_address(host))
    except ValueError:
        return host == "localhost" or host.endswith((".localhost", ".local", ".internal"))


def is_public(address: IpAddress) -> bool:
    """Whether ``address`` is one of the public internet.

    Loopback, private, shared, link-local (cloud metadata among them), multicast and reserved ones are not, by
    IANA's special-purpose registries; an IPv4 address inside an IPv6 one counts as itself.
    """
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
        if inner:
            return is_public(inner)
    special = address.is_multicast or address.is_reserved or any(address in net for net in _NOT_PUBLIC)
    return address.is_global and not special


def public_socket(address: SocketAddress) -> socket.socket:
    """Open a socket for a connection to ``address``, the one that a name was resolved to for this connection.

    A check of a name's addresses ahead of the connection could be passed by a server that then gives others.

    Raises:
        PrivateAddressError: where it is not public.
    """
    family, kind, protocol, _, target = address
    if not is_public(ipaddress.ip_address(target[0])):
        raise PrivateAddressError
    return socket.socket(family, kind, protocol)
