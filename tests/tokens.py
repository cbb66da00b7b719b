"""An identity provider of the tests' own: its keys, its tokens, and the server that shows the public keys."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

ISSUER, AUDIENCE = "https://issuer.example", "weir"


@cache
def private_key(kind: str) -> Any:
    """A key that is made once per run: ``rsa``, ``ec``, ``ed`` or a weak one, ``rsa1024``."""
    if kind == "ec":
        return ec.generate_private_key(ec.SECP256R1())
    if kind == "ed":
        return ed25519.Ed25519PrivateKey.generate()
    return rsa.generate_private_key(65537, 1024 if kind == "rsa1024" else 2048)


def public_jwk(kind: str, key_id: str, **more: str) -> dict[str, Any]:
    """The public key as it stands in a key set."""
    algorithm: Any = {"ec": jwt.algorithms.ECAlgorithm, "ed": jwt.algorithms.OKPAlgorithm}.get(
        kind, jwt.algorithms.RSAAlgorithm
    )
    return {**algorithm.to_jwk(private_key(kind).public_key(), as_dict=True), "kid": key_id, **more}


def key_set(*keys: dict[str, Any]) -> bytes:
    return json.dumps({"keys": keys}).encode()


def token(
    tenant: object = "acme",
    *,
    kind: str = "ec",
    key_id: str | None = "one",
    alg: str = "ES256",
    **claims: Any,
) -> str:
    """A signed token; a claim that is ``None`` is left out."""
    now = time.time()
    content = {"iss": ISSUER, "aud": AUDIENCE, "exp": now + 60, "iat": now, "tenant": tenant, **claims}
    content = {name: value for name, value in content.items() if value is not None}
    headers = {"kid": key_id} if key_id else None
    return jwt.encode(content, private_key(kind), algorithm=alg, headers=headers)


class Issuer:
    """Serves a key set, and counts how often it was asked."""

    def __init__(self, *keys: dict[str, Any]) -> None:
        self.keys, self.status, self.asked, self.url = list(keys), 200, 0, ""

    async def _show(self, request: web.Request) -> web.Response:
        self.asked += 1
        return web.Response(
            body=key_set(*self.keys),
            status=self.status,
            headers={"Location": "/elsewhere"} if self.status == 302 else None,
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Issuer]:
        app = web.Application()
        app.router.add_get("/{path:.*}", self._show)
        runner = web.AppRunner(app)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}/keys"
            yield self
        finally:
            await runner.cleanup()
