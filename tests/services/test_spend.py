"""Spending from end to end: forwarded through the real proxy, asked for by the command and by the page."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import msgspec
import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.services.provider_doubles import Proxy, ask, configured, proxy
from tests.tracing import test_tracing
from tests.unit.traces import COST_USD, episodes, stored
from weir.client import WeirClientError
from weir.common.config import Settings
from weir.common.errors import ErrorCode
from weir.common.errors.grpc import from_rpc_error
from weir.router.domain import Tier
from weir.router.receipts.records import Record
from weir.spending.report import Wanted
from weir.spending.source import SpendSource, untraced
from weir.v1 import frontier_proxy_pb2 as pb
from weir.viewer.app import Viewer

SAMPLE = Path(__file__).parents[1] / "data" / "replay_sample.jsonl"
ANSWERS = 20


def replaying(settings: Settings, folder: Path, **frontier: Any) -> Settings:
    provider = {
        "kind": "replay",
        "recording": SAMPLE,
        "tokens_per_second": 1e6,
        "replay_first_token_s": 0,
        "models": ["gpt-4o", "gpt-4o-mini"],
    }
    sections = {"providers": {"demo": provider}, "budgets_usd": {"acme": 1.0}, **frontier}
    return configured(settings, frontier=sections, state={"directory": folder})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The state folder, with the receipts of twenty answers."""
    folder = tmp_path / "state"
    folder.mkdir()
    stored(folder, episodes(ANSWERS))
    return folder


@pytest.fixture
def shared_folder(tmp_path: Path) -> Path:
    """The state folder, with the receipts of one answer for each of two tenants and one without a name."""
    folder = tmp_path / "state"
    folder.mkdir()
    stored(folder, of_tenants("", "acme", "other"))
    return folder


@pytest.fixture
async def running(settings: Settings, folder: Path) -> AsyncIterator[Proxy]:
    """A proxy through which two tenants and one without a name have asked."""
    async with proxy(replaying(settings, folder)) as running:
        await running.forward(ask(), tenant="acme")
        await running.forward(ask("How?", model="gpt-4o-mini"), tenant="acme")
        await running.forward(ask(), tenant="other")
        await running.forward(ask())
        yield running


def source_of(running: Proxy, settings: Settings, folder: Path, **options: Any) -> SpendSource:
    return SpendSource(
        configured(settings, state={"directory": folder}), f"127.0.0.1:{running.app.port}", **options
    )


async def test_the_report_has_a_row_for_each_tenant_and_model(
    running: Proxy, settings: Settings, folder: Path
) -> None:
    source = source_of(running, settings, folder)
    report = await source.report(Wanted())
    await source.aclose()
    rows = [(row.tenant, row.provider, row.model, row.attempts, row.replay) for row in report.spend]
    assert rows == [
        ("", "demo", "gpt-4o", 1, True),
        ("acme", "demo", "gpt-4o", 1, True),
        ("acme", "demo", "gpt-4o-mini", 1, True),
        ("other", "demo", "gpt-4o", 1, True),
    ]
    assert all(row.settled_usd > 0 and row.completion_tokens > 0 for row in report.spend)
    assert sum(row.reserved_usd for row in report.spend) == 0


async def test_the_report_tells_what_is_left_of_budgets(
    running: Proxy, settings: Settings, folder: Path
) -> None:
    source = source_of(running, settings, folder)
    report = await source.report(Wanted("acme"))
    await source.aclose()
    (budget,) = report.budgets
    spent = sum(row.settled_usd for row in report.spend)
    assert (budget.tenant, budget.period, budget.limit_usd, budget.resets_at) == ("acme", "total", 1.0, None)
    assert budget.committed_usd == pytest.approx(spent)
    assert budget.left_usd == pytest.approx(1 - spent)


async def test_the_report_has_what_the_router_saved(running: Proxy, settings: Settings, folder: Path) -> None:
    source, blind = source_of(running, settings, folder), source_of(running, settings, folder, receipts=False)
    told = (await source.report(Wanted())).record()["saved"]
    assert (await blind.report(Wanted())).savings is None
    await source.aclose()
    await blind.aclose()
    assert told["answers"] == ANSWERS
    assert told["frontier_cost_usd"] == pytest.approx(ANSWERS * COST_USD[Tier.FRONTIER])
    assert told["saved_usd"] == pytest.approx(told["frontier_cost_usd"] - told["cost_usd"])


TENANT_KEYS = {name: f"key-of-{name}-0123456789abcdef" for name in ("acme", "other", "ops")}


def with_tenants(settings: Settings, folder: Path) -> Settings:
    """A proxy that knows three tenants by their keys; "ops" is an operator."""
    hashes = {name: hashlib.sha256(key.encode()).hexdigest() for name, key in TENANT_KEYS.items()}
    tenants: dict[str, Any] = {name: {"api_keys": [{"sha256": digest}]} for name, digest in hashes.items()}
    tenants["ops"]["operator"] = True
    return configured(replaying(settings, folder), tenancy={"tenants": tenants})


def of_tenants(*tenants: str) -> list[Record]:
    """The receipts of one answer for each."""
    decided, ended, *_ = episodes(1)
    return [
        msgspec.structs.replace(record, decision_id=name or "none", **fields)
        for name in tenants
        for record, fields in ((decided, {"tenant": name}), (ended, {}))
    ]


@pytest.mark.parametrize(
    ("asking", "wanted", "shown"),
    [
        ("acme", None, ["acme"]),
        ("acme", "acme", ["acme"]),
        ("ops", None, ["", "acme", "other"]),
        ("ops", "other", ["other"]),
        ("", None, [""]),
    ],
)
async def test_savings_are_those_of_the_tenants_whose_spending_is_shown(
    settings: Settings, shared_folder: Path, asking: str, wanted: str | None, shown: list[str]
) -> None:
    metadata = [("x-api-key", TENANT_KEYS[asking])] if asking else []
    async with proxy(with_tenants(settings, shared_folder)) as running:
        source = source_of(running, settings, shared_folder, metadata=metadata)
        report = await source.report(Wanted(wanted))
        await source.aclose()
    assert report.savings is not None
    assert [row.tenant for row in report.savings] == shown


async def test_a_tenant_that_asks_for_anothers_savings_is_refused(
    settings: Settings, shared_folder: Path
) -> None:
    metadata = [("x-api-key", TENANT_KEYS["acme"])]
    async with proxy(with_tenants(settings, shared_folder)) as running:
        source = source_of(running, settings, shared_folder, metadata=metadata)
        with pytest.raises(WeirClientError, match="operators alone"):
            await source.report(Wanted("other"))
        await source.aclose()


async def test_in_a_trusted_network_savings_are_the_named_tenants(
    settings: Settings, shared_folder: Path
) -> None:
    async with proxy(replaying(settings, shared_folder)) as running:
        source = source_of(running, settings, shared_folder, metadata=[("x-weir-tenant", "acme")])
        report = await source.report(Wanted())
        await source.aclose()
    assert report.savings is not None
    assert [row.tenant for row in report.savings] == ["acme"]


async def test_days_are_chosen(running: Proxy, settings: Settings, folder: Path) -> None:
    source = source_of(running, settings, folder)
    today = datetime.now(UTC).date()
    yesterday = today - timedelta(days=1)
    now = await source.report(Wanted("acme", True, yesterday, today + timedelta(days=1)))
    before = await source.report(Wanted("acme", True, date(2020, 1, 1), yesterday - timedelta(days=1)))
    await source.aclose()
    assert len(now.spend) == 2
    assert all(date.fromisoformat(row.day) >= yesterday for row in now.spend)
    assert before.spend == ()


async def test_what_was_played_stays_marked_where_its_provider_is_configured_no_more(
    settings: Settings, tmp_path: Path
) -> None:
    async with proxy(replaying(settings, tmp_path)) as running:
        await running.forward(ask(), tenant="acme")
    async with proxy(configured(settings, frontier={}, state={"directory": tmp_path})) as running:
        spend = (await running.stub.GetSpend(pb.GetSpendRequest())).spend
    assert [(row.provider, row.replay) for row in spend] == [("demo", True)]


@pytest.mark.parametrize(
    ("request_fields", "field"),
    [
        ({"by_day": True, "from_day": "yesterday"}, "from_day"),
        ({"by_day": True, "to_day": "2026-02-30"}, "to_day"),
        ({"by_day": True, "from_day": "2026-02-02", "to_day": "2026-02-01"}, "to_day"),
        ({"from_day": "2026-02-02"}, "by_day"),
    ],
)
async def test_impossible_days_are_refused(
    settings: Settings, tmp_path: Path, request_fields: dict[str, Any], field: str
) -> None:
    async with proxy(replaying(settings, tmp_path)) as running:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await running.stub.GetSpend(pb.GetSpendRequest(**request_fields))
    error = from_rpc_error(caught.value)
    assert error.code is ErrorCode.INVALID_REQUEST
    assert list(error.fields) == [field]


async def test_without_a_proxy_the_report_says_what_to_do(settings: Settings, tmp_path: Path) -> None:
    source = SpendSource(configured(settings, state={"directory": tmp_path}), f"unix:{tmp_path}/nobody")
    with pytest.raises(WeirClientError, match=r"No frontier proxy answers at unix:.*weir up"):
        await source.report(Wanted())
    await source.aclose()


async def test_who_asks_all_the_time_leaves_no_spans(
    running: Proxy, settings: Settings, folder: Path
) -> None:
    exporter = InMemorySpanExporter()
    test_tracing().add_span_processor(SimpleSpanProcessor(exporter))
    seen = []
    for metadata in ([], [untraced()]):
        source = source_of(running, settings, folder, metadata=metadata)
        await source.report(Wanted())
        await source.aclose()
        seen.append(sorted(span.name.rpartition("/")[2] for span in exporter.get_finished_spans()))
        exporter.clear()
    assert seen == [["GetSpend", "ListModels"], []]


async def weir_spend(*arguments: str, **environ: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "weir.cli.main", "spend", *arguments),
        env={**os.environ, **environ},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


async def test_the_command_prints_the_configured_proxys_report(running: Proxy, folder: Path) -> None:
    port = {"WEIR_SERVICES__FRONTIER_PROXY__PORT": str(running.app.port)}
    state = {"WEIR_STATE__DIRECTORY": str(folder)}
    table, record = await asyncio.gather(
        weir_spend("--tenant", "acme", **port, **state), weir_spend("--json", **port, **state)
    )
    assert table[0] == record[0] == 0, (table, record)
    assert "gpt-4o-mini (replay)" in table[1]
    assert "other" not in table[1]
    told = json.loads(record[1])
    assert {row["tenant"] for row in told["spend"]} == {"", "acme", "other"}
    assert told["saved"]["answers"] == ANSWERS


async def test_the_command_says_in_a_sentence_what_is_wrong(tmp_path: Path) -> None:
    (code, out, err), (odd, _, told) = await asyncio.gather(
        weir_spend("--target", f"unix:{tmp_path}/nobody"), weir_spend("--from", "soon")
    )
    assert (code, out, odd) == (1, "", 2)
    assert err.startswith("weir: No frontier proxy answers at unix:")
    assert "'soon' is no day" in told


@asynccontextmanager
async def page(tmp_path: Path, source: SpendSource | None) -> AsyncIterator[aiohttp.ClientSession]:
    viewer = Viewer(tmp_path / "traces.db", http_port=0, otlp_port=0, spend=source)
    await viewer.start()
    try:
        async with aiohttp.ClientSession(viewer.url) as session:
            yield session
    finally:
        await viewer.aclose()


async def get(session: aiohttp.ClientSession, address: str) -> tuple[int, dict[str, Any]]:
    async with session.get(address) as response:
        return response.status, await response.json()


async def test_the_page_gets_the_report_of_all_time_and_of_days(
    running: Proxy, settings: Settings, folder: Path, tmp_path: Path
) -> None:
    async with page(tmp_path, source_of(running, settings, folder)) as session:
        status, everything = await get(session, "/api/spend")
        assert status == 200
        assert (len(everything["spend"]), everything["days"]) == (4, [])
        assert everything["models"][0]["replay"]
        status, week = await get(session, "/api/spend?days=7")
        assert (status, len(week["days"])) == (200, 7)
        assert {row["day"] for row in week["spend"]} <= set(week["days"])
        async with session.get("/spend") as response:
            assert "default-src 'none'" in response.headers["Content-Security-Policy"]


@pytest.mark.parametrize("days", ["0", "-1", "367", "seven", "9" * 5000, "٣"])
async def test_the_page_refuses_odd_numbers_of_days(tmp_path: Path, settings: Settings, days: str) -> None:
    async with page(tmp_path, SpendSource(settings, "unix:nobody")) as session:
        status, told = await get(session, f"/api/spend?days={days}")
    assert status == 400
    assert "days is a whole number" in told["error"]


async def test_the_page_says_that_no_proxy_answers(tmp_path: Path, settings: Settings) -> None:
    async with page(tmp_path, SpendSource(settings, f"unix:{tmp_path}/nobody")) as session:
        status, told = await get(session, "/api/spend")
    assert status == 502
    assert "No frontier proxy answers" in told["error"]


async def test_a_page_without_a_proxy_says_so(tmp_path: Path) -> None:
    async with page(tmp_path, None) as session:
        status, told = await get(session, "/api/spend")
    assert status == 503
    assert told["error"]
