"""Targets to replica addresses: a DNS name becomes one address per replica, so that each has its channel."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence

import structlog

DNS_SCHEME = "dns:///"
log = structlog.get_logger(__name__)


def is_dynamic(targets: Sequence[str]) -> bool:
    """Whether any target has to be resolved again from time to time."""
    return any(target.startswith(DNS_SCHEME) for target in targets)


async def resolve(targets: Sequence[str], known: Sequence[str] = ()) -> list[str]:
    """Return one address per replica, in order and without repetition.

    A name that cannot be resolved keeps ``known``, the last answer: a name server that is down must not take
    healthy replicas along.
    """
    addresses: dict[str, None] = {}
    for target in targets:
        if not target.startswith(DNS_SCHEME):
            addresses[target] = None
            continue
        try:
            addresses.update(dict.fromkeys(await _look_up(target.removeprefix(DNS_SCHEME))))
        except OSError as error:
            log.warning("name_not_resolved", target=target, error=str(error))
            addresses.update(dict.fromkeys(known))
    return list(addresses)


async def _look_up(name: str) -> list[str]:
    host, _, port = name.rpartition(":")
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
    return sorted({_address(family, place[0], int(place[1])) for family, _, _, _, place in found})


def _address(family: int, host: object, port: int) -> str:
    return f"[{host}]:{port}" if family == socket.AF_INET6 else f"{host}:{port}"
