"""Tokens and the keys that check them: what is refused, and what happens while the issuer is down."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.tokens import AUDIENCE, ISSUER, Issuer, key_set, private_key, public_jwk, token
from weir.common.config.tenancy import Jwt, Tenancy
from weir.common.context import CallInfo
from weir.common.errors import ErrorCode, WeirError
from weir.common.tenancy.authentication import Authenticator
from weir.common.tenancy.jwks import Jwks, configured_jwks, fetch
from weir.common.tenancy.key_set import KeySet
from weir.common.tenancy.rights import Rights
from weir.common.tenancy.tokens import TokenVerifier

ALL = [public_jwk("ec", "one"), public_jwk("rsa", "two"), public_jwk("ed", "three")]


class Source:
    """Gives a key set, or fails; counts how often it was asked."""

    def __init__(self, *keys: dict[str, Any]) -> None:
        self.keys, self.asked, self.error = list(keys), 0, False
        self.held = asyncio.Event()
        self.held.set()

    async def __call__(self) -> bytes:
        self.asked += 1
        await self.held.wait()
        if self.error:
            raise ConnectionResetError
        return key_set(*self.keys)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def jwks(source: Source, clock: Clock | None = None) -> Jwks:
    return Jwks(source, 600, 10, clock or Clock())


def verifier(*keys: dict[str, Any], **config: Any) -> TokenVerifier:
    settings = Jwt(issuer=ISSUER, audience=AUDIENCE, jwks_file=Path("unused"), **config)
    return TokenVerifier(settings, jwks(Source(*(keys or ALL))))


async def refusal(checked: TokenVerifier, text: str) -> WeirError:
    with pytest.raises(WeirError) as caught:
        await checked.tenant_of(text)
    assert caught.value.code is ErrorCode.UNAUTHENTICATED
    return caught.value


def forged(header: dict[str, Any], secret: bytes = b"") -> str:
    """A token whose header says what it likes, signed with a shared secret."""
    now = time.time()
    claims = {"iss": ISSUER, "aud": AUDIENCE, "exp": now + 60, "tenant": "acme"}
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, claims)]
    signature = hmac.new(secret, b".".join(parts), hashlib.sha256).digest() if secret else b""
    return b".".join([*parts, base64.urlsafe_b64encode(signature).rstrip(b"=")]).decode()


@pytest.mark.parametrize(
    ("kind", "key_id", "alg"), [("ec", "one", "ES256"), ("rsa", "two", "RS256"), ("ed", "three", "EdDSA")]
)
async def test_a_valid_token_names_its_tenant(kind: str, key_id: str, alg: str) -> None:
    text = token("acme", kind=kind, key_id=key_id, alg=alg)
    assert await verifier().tenant_of(text) == "acme"


async def test_a_token_without_a_key_id_is_checked_by_the_only_key_that_fits() -> None:
    assert await verifier().tenant_of(token(key_id=None)) == "acme"
    await refusal(verifier(public_jwk("ec", "one"), public_jwk("ec", "other")), token(key_id=None))


async def test_the_claim_that_names_the_tenant_can_be_chosen() -> None:
    assert await verifier(tenant_claim="org").tenant_of(token(None, org="acme")) == "acme"


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": 1},
        {"exp": None},
        {"nbf": time.time() + 3600},
        {"iat": time.time() + 3600},
        {"iss": "https://other.example"},
        {"iss": None},
        {"aud": "another"},
        {"aud": None},
        {"tenant": None},
        {"tenant": ""},
        {"tenant": "*"},
        {"tenant": ["acme"]},
        {"tenant": "ac\nme"},
        {"tenant": "x" * 129},
    ],
    ids=range(14),
)
async def test_a_token_with_a_wrong_claim_is_refused(claims: dict[str, Any]) -> None:
    tenant = claims.pop("tenant", "acme")
    error = await refusal(verifier(), token(tenant, **claims))
    assert "other.example" not in f"{error.hint}{error.internal}"


async def test_clocks_may_differ_by_the_leeway() -> None:
    now = time.time()
    early, late = token(nbf=now + 20, iat=now + 20), token(exp=now - 20)
    for text in (early, late):
        assert await verifier(leeway_s=30).tenant_of(text) == "acme"
        await refusal(verifier(leeway_s=5), text)


async def test_an_unsigned_token_is_refused() -> None:
    await refusal(verifier(), forged({"alg": "none", "kid": "one"}))
    await refusal(verifier(), token().rpartition(".")[0] + ".")


async def test_a_public_key_is_no_shared_secret() -> None:
    """RFC 8725, 2.1: the token says HS256, and the "secret" is the public key that everybody can read."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    public = private_key("rsa").public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    jwk = json.dumps(public_jwk("rsa", "two")).encode()
    for secret in (pem, pem.strip(), jwk):
        for algorithm in ("HS256", "RS256"):
            await refusal(verifier(), forged({"alg": algorithm, "kid": "two"}, secret))


async def test_a_key_set_with_a_shared_secret_checks_nothing() -> None:
    secret = {"kty": "oct", "kid": "one", "k": base64.urlsafe_b64encode(b"secret").decode(), "alg": "RS256"}
    with pytest.raises(ValueError, match="no key"):
        KeySet(key_set(secret))
    await refusal(
        verifier(secret, public_jwk("rsa", "two")), forged({"alg": "RS256", "kid": "one"}, b"secret")
    )


async def test_an_algorithm_that_the_key_or_the_configuration_excludes_is_refused() -> None:
    bound = public_jwk("rsa", "two", alg="RS256")
    text = token(kind="rsa", key_id="two", alg="PS256")
    await refusal(verifier(bound, algorithms=["RS256", "PS256"]), text)
    await refusal(verifier(), text)
    assert await verifier(public_jwk("rsa", "two"), algorithms=["PS256"]).tenant_of(text) == "acme"


async def test_keys_for_encryption_and_weak_ones_check_no_signature() -> None:
    await refusal(verifier(public_jwk("ec", "one", use="enc"), public_jwk("rsa", "two")), token())
    with pytest.warns(match="key is 1024 bits"):
        weak = token(kind="rsa1024", key_id="weak", alg="RS256")
    await refusal(verifier(public_jwk("rsa1024", "weak")), weak)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a.b.c",
        "....",
        "é.é.é",
        forged({"alg": ["RS256"], "kid": "two"}),
        forged({"kid": "two"}),
        forged({"alg": "RS256", "kid": {"a": 1}}),
        forged({"alg": "ES256", "kid": "one", "crit": ["x"]}, b"s"),
        base64.urlsafe_b64encode(b"[" * 200_000).decode() + ".e30.x",
    ],
    ids=range(9),
)
async def test_what_is_no_token_is_refused(text: str) -> None:
    error = await refusal(verifier(), text)
    assert not text or text[:40] not in str(error)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html>",
        b"[]",
        b'{"keys": []}',
        b'{"keys": {}}',
        b'{"keys": [1, {"kty": "RSA", "kid": []}]}',
        b'{"keys": [{"kty": "EC", "key_ops": ["sign"]}]}',
        b"[" * 200_000,
    ],
    ids=range(8),
)
def test_what_is_no_key_set_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError):
        KeySet(content)


async def test_a_key_that_cannot_be_built_spoils_none_of_the_others() -> None:
    broken = {"kty": "EC", "kid": "broken", "crv": "P-256", "x": "!", "y": ""}
    checked = verifier(broken, public_jwk("ec", "one"))
    await refusal(checked, token(key_id="broken"))
    assert await checked.tenant_of(token()) == "acme"


async def test_keys_are_fetched_once_and_an_unknown_one_asks_again_only_so_often() -> None:
    source, clock = Source(public_jwk("ec", "one")), Clock()
    keys = jwks(source, clock)
    await keys.start()
    for _ in range(5):
        assert await keys.find("one", "ES256")
    for _ in range(5):
        assert await keys.find("new", "ES256") is None
    assert source.asked == 1
    source.keys.append(public_jwk("rsa", "new"))
    clock.now += 10
    assert await keys.find("new", "RS256"), "a rotated key is found without a restart"
    assert await keys.find("unknown", "RS256") is None
    assert source.asked == 2
    await keys.aclose()


async def test_keys_stay_in_use_while_the_issuer_is_down_and_go_when_it_says_so() -> None:
    source, clock = Source(public_jwk("ec", "one")), Clock()
    keys = jwks(source, clock)
    await keys.start()
    source.error = True
    clock.now += 601
    for _ in range(3):
        assert await keys.find("one", "ES256")
        await asyncio.sleep(0)
    assert source.asked == 2
    source.error, source.keys = False, [public_jwk("rsa", "two")]
    clock.now += 10
    assert await keys.find("two", "RS256")
    assert await keys.find("one", "ES256") is None
    await keys.aclose()


async def test_no_caller_waits_for_keys_that_are_renewed_in_the_background() -> None:
    source, clock = Source(public_jwk("ec", "one")), Clock()
    keys = jwks(source, clock)
    await keys.start()
    source.held.clear()
    clock.now += 601
    async with asyncio.timeout(5):
        assert await keys.find("one", "ES256")
    await keys.aclose()


async def test_a_caller_that_leaves_does_not_stop_the_fetch() -> None:
    source = Source(public_jwk("ec", "one"))
    source.held.clear()
    keys = jwks(source)
    leaving = asyncio.create_task(keys.find("one", "ES256"))
    staying = asyncio.create_task(keys.find("one", "ES256"))
    await asyncio.sleep(0)
    leaving.cancel()
    source.held.set()
    assert await staying
    assert source.asked == 1
    await asyncio.wait([leaving])
    assert leaving.cancelled()
    await keys.aclose()


async def test_an_issuer_that_was_never_reached_is_no_fault_of_the_caller() -> None:
    source, clock = Source(public_jwk("ec", "one")), Clock()
    source.error = True
    keys = jwks(source, clock)
    await keys.start()
    with pytest.raises(WeirError) as caught:
        await keys.find("one", "ES256")
    assert caught.value.code is ErrorCode.IDENTITY_UNAVAILABLE
    source.error = False
    clock.now += 10
    assert await keys.find("one", "ES256")
    await keys.aclose()


async def test_keys_come_over_http_and_neither_errors_nor_redirects_nor_floods_are_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with Issuer(public_jwk("ec", "one")).running() as issuer:
        assert KeySet(await fetch(issuer.url)).find("one", "ES256")
        issuer.status = 302
        with pytest.raises(ValueError, match="key set"):
            await fetch(issuer.url)
        issuer.status = 200
        monkeypatch.setattr("weir.common.tenancy.jwks.MAX_BYTES", 20)
        with pytest.raises(ValueError, match="large"):
            await fetch(issuer.url)


async def test_a_key_set_in_a_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(key_set(public_jwk("ec", "one")))
    keys = configured_jwks(Jwt(issuer=ISSUER, audience=AUDIENCE, jwks_file=path))
    await keys.start()
    assert await keys.find("one", "ES256")
    path.write_bytes(key_set(public_jwk("ec", "one"), public_jwk("rsa", "two")))
    async with asyncio.timeout(5):
        while await keys.find("two", "RS256") is None:  # noqa: ASYNC110 - a file has no event to wait on
            await asyncio.sleep(0.02)
    await keys.aclose()


def authenticator(environ: dict[str, str] | None = None, **config: Any) -> Authenticator:
    settings = Tenancy.model_validate(config)
    return Authenticator(settings, Rights(settings), environ or {})


async def test_without_credentials_configured_the_metadata_is_trusted() -> None:
    trusting = authenticator(tenants={"ops": {"operator": True}})
    for name, operator in (("acme", False), ("", True), ("ops", True)):
        call = CallInfo(tenant=name, credentials=(("authorization", "Basic of a mesh"),))
        await trusting.identify(call)
        assert (call.tenant, call.operator) == (name, operator)
    with pytest.raises(WeirError) as caught:
        await trusting.identify(CallInfo(tenant="*"))
    assert caught.value.code is ErrorCode.INVALID_REQUEST


KEY = "key-of-acme-0123456789abcdef"
WITH_KEY: dict[str, Any] = {"tenants": {"acme": {"api_keys": [{"env": "KEY"}]}}}


@pytest.mark.parametrize(
    ("claimed", "credentials", "expected"),
    [
        ("", [("x-api-key", KEY)], "acme"),
        ("acme", [("x-api-key", KEY)], "acme"),
        ("", [("authorization", f"bearer  {KEY} ")], "acme"),
        ("", [], ""),
        ("rival", [("x-api-key", KEY)], ErrorCode.TENANT_FORBIDDEN),
        ("acme", [], ErrorCode.UNAUTHENTICATED),
        ("", [("x-api-key", "wrong")], ErrorCode.UNAUTHENTICATED),
        ("", [("x-api-key", "")], ErrorCode.UNAUTHENTICATED),
        ("", [("x-api-key", "wrong"), ("authorization", f"Bearer {KEY}")], ErrorCode.UNAUTHENTICATED),
        ("", [("authorization", KEY)], ErrorCode.UNAUTHENTICATED),
        ("", [("authorization", "Bearer ")], ErrorCode.UNAUTHENTICATED),
        ("", [("authorization", f"Basic {KEY}")], ErrorCode.UNAUTHENTICATED),
    ],
)
async def test_credentials_decide_whose_call_it_is(
    claimed: str, credentials: list[tuple[str, str]], expected: str | ErrorCode
) -> None:
    checking, call = (
        authenticator({"KEY": KEY}, **WITH_KEY),
        CallInfo("", claimed, credentials=tuple(credentials)),
    )
    if isinstance(expected, ErrorCode):
        with pytest.raises(WeirError) as caught:
            await checking.identify(call)
        assert caught.value.code is expected
        assert KEY not in str(caught.value)
        assert call.tenant == "", "a claim that is not proven is not told"
    else:
        await checking.identify(call)
        assert call.tenant == expected
    assert not call.operator


async def test_calls_without_credentials_are_refused_where_they_are_required() -> None:
    checking = authenticator({"KEY": KEY}, required=True, **WITH_KEY)
    with pytest.raises(WeirError) as caught:
        await checking.identify(CallInfo())
    assert caught.value.code is ErrorCode.UNAUTHENTICATED


async def test_tokens_and_keys_can_be_had_beside_each_other() -> None:
    async with Issuer(public_jwk("ec", "one")).running() as issuer:
        config = {"issuer": ISSUER, "audience": AUDIENCE, "jwks_url": issuer.url}
        checking = authenticator({"KEY": KEY}, jwt=config, **WITH_KEY)
        await checking.start()
        for value, tenant in ((KEY, "acme"), (token("globex"), "globex")):
            call = CallInfo(credentials=(("authorization", f"Bearer {value}"),))
            await checking.identify(call)
            assert call.tenant == tenant
        assert issuer.asked == 1
        await checking.aclose()
