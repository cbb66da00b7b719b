"""Tenants through running services: who may call, for what, how often, and what they see of each other."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.services import scripted_upstreams as upstreams
from tests.services.provider_doubles import (
    ANSWER,
    RECORDED,
    ProviderDouble,
    Proxy,
    Reply,
    ask,
    configured,
    openai_chunks,
    proxy,
)
from tests.tokens import AUDIENCE, ISSUER, Issuer, public_jwk, token
from tests.tracing import test_tracing
from weir.cli.credentials import credentials
from weir.common import calls
from weir.common.config import Settings
from weir.common.context import current_call
from weir.common.errors import ErrorCode, WeirError
from weir.common.errors.grpc import from_rpc_error
from weir.router.app import build as build_router
from weir.v1 import frontier_proxy_pb2 as pb
from weir.v1 import (
    router_pb2,
    router_pb2_grpc,
    slm_worker_pb2,
    slm_worker_pb2_grpc,
    types_pb2,
    verifier_pb2,
)

ACME, GLOBEX, OPS = (f"key-of-{name}-0123456789abcdef" for name in ("acme", "globex", "ops"))
FRONTIER = types_pb2.Policy(allowed_tiers=[types_pb2.TIER_FRONTIER])
Metadata = Sequence[tuple[str, str]]


def key(value: str) -> Metadata:
    return [("x-api-key", value)]


def keyed(**more: dict[str, Any]) -> dict[str, Any]:
    """The section ``tenancy`` with three tenants; ``more`` is added to theirs by name."""
    tenants: dict[str, Any] = {
        name: {"api_keys": [{"sha256": hashlib.sha256(value.encode()).hexdigest()}]}
        for name, value in (("acme", ACME), ("globex", GLOBEX), ("ops", OPS))
    }
    tenants["ops"]["operator"] = True
    for name, rights in more.items():
        tenants[name] |= rights
    return {"tenants": tenants}


async def refused(call: Awaitable[Any]) -> WeirError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return from_rpc_error(caught.value)


async def read(call: Any) -> list[Any]:
    return [event async for event in call]


def forward(running: Proxy, metadata: Metadata = (), **fields: Any) -> Awaitable[list[Any]]:
    return read(running.stub.Forward(ask(**fields), timeout=20, metadata=metadata))


def said(events: list[Any]) -> str:
    return "".join(event.delta.text for event in events)


@pytest.fixture
async def double() -> AsyncIterator[ProviderDouble]:
    async with ProviderDouble().running() as running:
        yield running


@pytest.fixture
def one(double: ProviderDouble, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings with OpenAI alone, two of its models."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-double-0123456789abcdefghij")
    providers = {"openai": {"kind": "openai", "base_url": double.url, "models": ["gpt-4o", "gpt-4o-mini"]}}
    return configured(settings, frontier={"providers": providers})


async def test_a_key_decides_whose_money_is_spent_and_who_sees_it(
    double: ProviderDouble, one: Settings
) -> None:
    double.will(*(Reply([RECORDED["openai"]]) for _ in range(2)))
    frontier = {**one.frontier.model_dump(), "budgets": [{"usd": 1}, {"tenant": "*", "usd": 5}]}
    async with proxy(configured(one, tenancy=keyed(), frontier=frontier)) as running:

        async def spend(metadata: Metadata, tenant: str = "") -> tuple[set[str], set[str]]:
            request = pb.GetSpendRequest(tenant=tenant)
            response = await running.stub.GetSpend(request, metadata=metadata)
            return {row.tenant for row in response.spend}, {budget.tenant for budget in response.budgets}

        assert said(await forward(running, key(ACME))) == ANSWER
        await forward(running, [("authorization", f"Bearer {GLOBEX}")])
        assert await spend(key(ACME)) == await spend(key(ACME), "acme") == ({"acme"}, {"acme"})
        assert await spend(key(OPS)) == ({"acme", "globex"}, {"acme", "globex", "*"})
        assert await spend(key(OPS), "globex") == ({"globex"}, {"globex"})
        assert await spend([]) == (set(), {""})
        for metadata, tenant in ((key(ACME), "globex"), ([], "acme")):
            error = await refused(spend(metadata, tenant))
            assert error.code is ErrorCode.TENANT_FORBIDDEN


async def test_without_keys_the_named_tenant_is_trusted_and_sees_its_own(
    double: ProviderDouble, one: Settings
) -> None:
    double.will(Reply([RECORDED["openai"]]))
    async with proxy(one) as running:
        await forward(running, [("x-weir-tenant", "acme")])
        seen = await running.stub.GetSpend(pb.GetSpendRequest())
        other = [("x-weir-tenant", "globex")]
        error = await refused(running.stub.GetSpend(pb.GetSpendRequest(tenant="acme"), metadata=other))
    assert [row.tenant for row in seen.spend] == ["acme"]
    assert error.code is ErrorCode.TENANT_FORBIDDEN


@pytest.mark.parametrize(
    ("metadata", "code"),
    [
        ([], ErrorCode.UNAUTHENTICATED),
        (key("key-of-nobody-0123456789"), ErrorCode.UNAUTHENTICATED),
        ([("authorization", "Basic dXNlcjpwYXNz")], ErrorCode.UNAUTHENTICATED),
        ([("x-weir-tenant", "acme")], ErrorCode.UNAUTHENTICATED),
        ([*key(GLOBEX), ("x-weir-tenant", "acme")], ErrorCode.TENANT_FORBIDDEN),
    ],
)
async def test_a_call_that_is_not_who_it_says_reaches_no_provider(
    double: ProviderDouble, one: Settings, metadata: Metadata, code: ErrorCode
) -> None:
    async with proxy(configured(one, tenancy={**keyed(), "required": True})) as running:
        error = await refused(forward(running, metadata))
        spent = await refused(running.stub.GetSpend(pb.GetSpendRequest(), metadata=metadata))
    assert (error.code, spent.code) == (code, code)
    assert not double.bodies


async def test_what_shows_nothing_of_a_tenant_stays_open(one: Settings) -> None:
    tenancy = {**keyed(), "required": True}
    async with proxy(configured(one, tenancy=tenancy)) as running:
        assert (await running.stub.ListModels(pb.ListModelsRequest())).models
        async with calls.connect(f"127.0.0.1:{running.app.port}") as channel:
            health: Any = health_pb2_grpc.HealthStub(channel)
            found = await health.Check(health_pb2.HealthCheckRequest())
    assert found.status == health_pb2.HealthCheckResponse.SERVING
    async with upstreams.router_bench(configured(one, tenancy=tenancy)) as bench:
        assert (await bench.stub.GetStatus(router_pb2.GetStatusRequest())).tiers
        for call in (
            read(bench.stub.Generate(upstreams.ask())),
            bench.stub.Route(router_pb2.RouteRequest(prompt=upstreams.prompt("Hello"))),
            bench.stub.SendFeedback(router_pb2.SendFeedbackRequest(decision_id="x", acceptable=True)),
        ):
            assert (await refused(call)).code is ErrorCode.UNAUTHENTICATED


async def test_a_token_names_its_tenant_and_a_rotated_signing_key_is_found(
    double: ProviderDouble, one: Settings
) -> None:
    double.will(*(Reply([RECORDED["openai"]]) for _ in range(2)))
    async with Issuer(public_jwk("ec", "one")).running() as issuer:
        jwt = {"issuer": ISSUER, "audience": AUDIENCE, "jwks_url": issuer.url, "jwks_cache_s": 0.05}
        async with proxy(configured(one, tenancy={"jwt": jwt, "required": True})) as running:
            await forward(running, [("authorization", f"Bearer {token('acme')}")])
            issuer.keys = [public_jwk("rsa", "two")]
            fresh = [("authorization", f"Bearer {token('acme', kind='rsa', key_id='two', alg='RS256')}")]
            async with asyncio.timeout(5):
                while True:
                    try:
                        spend = await running.stub.GetSpend(pb.GetSpendRequest(), metadata=fresh)
                        break
                    except grpc.aio.AioRpcError:
                        await asyncio.sleep(0.02)
            await forward(running, fresh)
            expired = [("authorization", f"Bearer {token(exp=1)}")]
            error = await refused(forward(running, expired))
    assert [row.tenant for row in spend.spend] == ["acme"]
    assert error.code is ErrorCode.UNAUTHENTICATED


async def test_a_key_that_is_rotated_in_its_file_is_taken_without_a_restart(
    one: Settings, tmp_path: Path
) -> None:
    path = tmp_path / "keys"
    path.write_text(ACME)
    tenancy = {"tenants": {"acme": {"api_keys": [{"file": path}]}}}
    async with proxy(configured(one, tenancy=tenancy)) as running:
        request = pb.GetSpendRequest(tenant="acme")
        await running.stub.GetSpend(request, metadata=key(ACME))
        path.write_text(GLOBEX)
        async with asyncio.timeout(5):
            while True:
                try:
                    await running.stub.GetSpend(request, metadata=key(GLOBEX))
                    break
                except grpc.aio.AioRpcError:
                    await asyncio.sleep(0.02)
        error = await refused(running.stub.GetSpend(request, metadata=key(ACME)))
    assert error.code is ErrorCode.UNAUTHENTICATED


async def test_a_tenant_is_offered_its_models_alone(double: ProviderDouble, one: Settings) -> None:
    double.will(*(Reply([RECORDED["openai"]]) for _ in range(2)))
    tenancy = keyed(acme={"models": ["gpt-4o-mini"]}, globex={"models": ["claude-haiku-4-5"]})
    async with proxy(configured(one, tenancy=tenancy)) as running:
        free = await forward(running, key(ACME))
        named = await forward(running, key(ACME), model="gpt-4o-mini")
        forbidden = await refused(forward(running, key(ACME), model="gpt-4o"))
        nothing = await refused(forward(running, key(GLOBEX)))
    assert [event[-1].finished.usage[0].model for event in (free, named)] == ["gpt-4o-mini"] * 2
    assert forbidden.code is nothing.code is ErrorCode.TENANT_FORBIDDEN
    assert "gpt-4o-mini" in forbidden.hint
    assert [body["model"] for body in double.bodies] == ["gpt-4o-mini"] * 2


async def test_a_tenants_residency_holds_where_the_request_states_none(
    double: ProviderDouble, one: Settings
) -> None:
    double.will(Reply([RECORDED["openai"]]))
    tenancy = keyed(acme={"residency": "local_only"}, globex={"residency": "redacted"})
    async with proxy(configured(one, tenancy=tenancy)) as running:
        error = await refused(forward(running, key(ACME)))
        await forward(running, key(GLOBEX), text="Write to ada@example.org.")
    assert error.code is ErrorCode.RESIDENCY_FORBIDDEN
    assert len(double.bodies) == 1
    assert "ada@example.org" not in str(double.bodies)


async def test_the_router_keeps_a_tenants_residency_too(settings: Settings) -> None:
    tenancy = keyed(acme={"residency": "local_only"})
    async with upstreams.router_bench(configured(settings, tenancy=tenancy), complexity=0.9) as bench:

        async def tier(metadata: Metadata, **policy: Any) -> int:
            request = router_pb2.RouteRequest(
                prompt=upstreams.prompt("Hello"), policy=types_pb2.Policy(**policy)
            )
            return (await bench.stub.Route(request, metadata=metadata)).decision.tier

        assert await tier(key(ACME)) != types_pb2.TIER_FRONTIER
        assert await tier(key(GLOBEX)) == types_pb2.TIER_FRONTIER
        assert await tier(key(ACME), residency=types_pb2.RESIDENCY_ANY) == types_pb2.TIER_FRONTIER


@pytest.mark.parametrize("code", [ErrorCode.TENANT_FORBIDDEN, ErrorCode.TENANT_RATE])
async def test_a_local_tier_answers_where_the_frontier_is_not_for_the_tenant(
    settings: Settings, code: ErrorCode
) -> None:
    async with upstreams.router_bench(settings, complexity=0.9) as bench:
        bench.frontier.script.error = WeirError(code)
        events = await bench.generate()
    assert said(events) == "one two"
    assert events[1].handoff.from_tier == types_pb2.TIER_FRONTIER


async def test_requests_past_a_tenants_rate_are_told_when_to_come_again(
    double: ProviderDouble, one: Settings
) -> None:
    double.will(*(Reply([RECORDED["openai"]]) for _ in range(3)))
    tenancy = keyed(acme={"requests_per_minute": 2})
    async with proxy(configured(one, tenancy=tenancy)) as running:
        for _ in range(2):
            await forward(running, key(ACME))
        error = await refused(forward(running, key(ACME)))
        await forward(running, key(GLOBEX))
        await running.stub.GetSpend(pb.GetSpendRequest(), metadata=key(ACME))
    assert error.code is ErrorCode.TENANT_RATE
    assert error.retry_after_s is not None
    assert 1 < error.retry_after_s <= 61
    assert error.metadata["tenant"] == "acme"


async def test_tokens_past_a_tenants_rate_are_refused_with_those_of_broken_streams_counted(
    double: ProviderDouble, one: Settings
) -> None:
    double.will(
        Reply(openai_chunks("ok", usage=(50, 10))),
        Reply(openai_chunks("A weir " * 40, finish=None), cut=True),
    )
    tenancy = keyed(acme={"tokens_per_minute": 100})
    frontier = {**one.frontier.model_dump(), "retries": {"per_model": 0}, "after_first_text": "fail"}
    async with proxy(configured(one, tenancy=tenancy, frontier=frontier)) as running:
        await forward(running, key(ACME))
        broken = await refused(forward(running, key(ACME)))
        error = await refused(forward(running, key(ACME)))
        never = await refused(forward(running, key(ACME), text="word " * 200))
    assert broken.code is ErrorCode.STREAM_BROKEN
    assert error.code is ErrorCode.TENANT_RATE
    assert never.code is ErrorCode.TENANT_FORBIDDEN


async def test_the_router_counts_the_tokens_of_all_tiers(settings: Settings) -> None:
    tenancy = keyed(acme={"tokens_per_minute": 20}, globex={"requests_per_minute": 1})
    async with upstreams.router_bench(configured(settings, tenancy=tenancy)) as bench:

        async def generate(value: str) -> list[Any]:
            return await read(bench.stub.Generate(upstreams.ask("Hi"), metadata=key(value)))

        await generate(ACME)  # 12 tokens
        error = await refused(generate(ACME)) if await generate(ACME) else None
        await generate(GLOBEX)
        often = await refused(generate(GLOBEX))
    assert error is not None
    assert (error.code, error.metadata["unit"]) == (ErrorCode.TENANT_RATE, "tokens")
    assert (often.code, often.metadata["unit"]) == (ErrorCode.TENANT_RATE, "requests")


async def test_a_decision_can_be_labeled_by_its_own_tenant_alone(settings: Settings) -> None:
    async with upstreams.router_bench(configured(settings, tenancy=keyed())) as bench:
        events = await read(bench.stub.Generate(upstreams.ask(), metadata=key(ACME)))
        label = router_pb2.SendFeedbackRequest(decision_id=events[0].decision.decision_id, acceptable=True)
        for metadata in (key(GLOBEX), key(OPS), []):
            error = await refused(bench.stub.SendFeedback(label, metadata=metadata))
            assert error.code is ErrorCode.UNKNOWN_DECISION
        await bench.stub.SendFeedback(label, metadata=key(ACME))


class Relay(upstreams.ScriptedVerifier):
    """A verifier that hands over to the frontier at once, and asks a worker on the way."""

    def __init__(self, stub: Any, worker: Any) -> None:
        super().__init__()
        self._stub, self._worker = stub, worker

    async def GenerateVerified(
        self, request: Any, context: Any
    ) -> AsyncIterator[verifier_pb2.GenerateVerifiedResponse]:
        await calls.unary(self._worker.GetModelInfo, slm_worker_pb2.GetModelInfoRequest())
        async with calls.stream_from(self._stub.Forward, ask()) as events:
            async for event in events:
                if event.HasField("delta"):
                    yield verifier_pb2.GenerateVerifiedResponse(delta=event.delta)
                else:
                    end = verifier_pb2.VerifiedFinished(usage=event.finished.usage)
                    yield verifier_pb2.GenerateVerifiedResponse(finished=end)


class Watchful(upstreams.ScriptedWorker):
    """A worker that notes which credentials came to it."""

    def __init__(self) -> None:
        super().__init__()
        self.given: list[tuple[str, object]] = []

    async def GetModelInfo(self, request: Any, context: Any) -> slm_worker_pb2.GetModelInfoResponse:
        self.given.append((current_call().tenant, current_call().credentials))
        return await super().GetModelInfo(request, context)


@asynccontextmanager
async def relayed(settings: Settings, tenancy: dict[str, Any]) -> AsyncIterator[tuple[Any, Proxy, Watchful]]:
    """A router before a relaying verifier and a real proxy, which both authenticate."""
    settings = configured(settings, tenancy=tenancy)
    async with AsyncExitStack() as stack:
        running, worker = await stack.enter_async_context(proxy(settings)), Watchful()
        port = await stack.enter_async_context(upstreams.serve(worker))
        channel = await stack.enter_async_context(calls.connect(f"127.0.0.1:{port}"))
        relay = Relay(running.stub, slm_worker_pb2_grpc.SlmWorkerServiceStub(channel))
        verifier = await stack.enter_async_context(upstreams.serve(relay))
        targets = {"verifier": [f"127.0.0.1:{verifier}"], "frontier_proxy": [f"127.0.0.1:{running.app.port}"]}
        services = settings.services.model_dump()
        services["router"] |= {**targets, "slm_worker": [f"127.0.0.1:{port}"]}
        routing = settings.routing.model_copy(
            update={"runtime": settings.routing.runtime.model_copy(update={"time_limit_ms": 5_000})}
        )
        adapted = configured(settings, services=services, routing=routing.model_dump())
        app = build_router(adapted, lambda _: upstreams.FixedClassifier(0.5))
        await stack.enter_async_context(app)
        front = await stack.enter_async_context(calls.connect(f"127.0.0.1:{app.port}"))
        yield router_pb2_grpc.RouterServiceStub(front), running, worker


@pytest.mark.parametrize("tier", [types_pb2.TIER_FRONTIER, types_pb2.TIER_HYBRID])
async def test_the_proxy_authenticates_by_itself_behind_router_and_verifier(
    double: ProviderDouble, one: Settings, tier: types_pb2.Tier.ValueType
) -> None:
    double.will(Reply([RECORDED["openai"]]))
    async with relayed(one, {**keyed(), "required": True}) as (router, running, worker):
        policy = types_pb2.Policy(allowed_tiers=[tier])
        events = await until_answered(router, policy)
        spend = (await running.stub.GetSpend(pb.GetSpendRequest(), metadata=key(OPS))).spend
    assert said(events) == ANSWER
    assert [row.tenant for row in spend] == ["acme"]
    assert all(not given for _, given in worker.given), "a worker has no use for credentials"
    if tier == types_pb2.TIER_HYBRID:
        assert ("acme", ()) in worker.given


async def until_answered(router: Any, policy: types_pb2.Policy) -> list[Any]:
    """Ask until the router has found its upstreams."""
    async with asyncio.timeout(10):
        while True:
            try:
                return await read(router.Generate(upstreams.ask(policy=policy), metadata=key(ACME)))
            except grpc.aio.AioRpcError as error:
                if from_rpc_error(error).code is not ErrorCode.TIER_UNAVAILABLE:
                    raise
            await asyncio.sleep(0.02)


async def test_no_credential_is_logged_traced_or_told(
    double: ProviderDouble, one: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    double.will(Reply([RECORDED["openai"]]))
    spans = InMemorySpanExporter()
    test_tracing().add_span_processor(SimpleSpanProcessor(spans))
    bad, secret = token(exp=1), "key-of-nobody-0123456789"
    jwt = {"issuer": ISSUER, "audience": AUDIENCE}
    async with Issuer(public_jwk("ec", "one")).running() as issuer:
        tenancy = {**keyed(), "jwt": {**jwt, "jwks_url": issuer.url}}
        with structlog.testing.capture_logs() as logs, caplog.at_level(logging.DEBUG):
            async with proxy(configured(one, tenancy=tenancy)) as running:
                await forward(running, key(ACME))
                errors = [
                    await refused(forward(running, metadata))
                    for metadata in (key(secret), [("authorization", f"Bearer {bad}")])
                ]
    told = f"{[(str(error), error.metadata) for error in errors]} {logs} {caplog.text}"
    traced = str([(dict(span.attributes or {}), span.events) for span in spans.get_finished_spans()])
    assert "tenant': 'acme" in told
    assert "Forward" in traced
    for word in (ACME, secret, bad, bad.rpartition(".")[2], hashlib.sha256(ACME.encode()).hexdigest()):
        assert word not in told
        assert word not in traced


def test_the_command_line_takes_credentials_from_variables_alone() -> None:
    assert credentials({}) == []
    assert credentials({"WEIR_API_KEY": f"{ACME}\n", "WEIR_TOKEN": "t"}) == [("x-api-key", ACME)]
    assert credentials({"WEIR_API_KEY": "", "WEIR_TOKEN": "t"}) == [("authorization", "Bearer t")]
