"""The replay through the running proxy: answers without a key, priced as the recorded model, and marked."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import pytest
import structlog
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.services.provider_doubles import Proxy, ask, configured, proxy
from tests.tracing import test_tracing
from weir.common import conventions as names
from weir.common.config import ConfigError, Settings
from weir.common.errors import ErrorCode
from weir.common.errors.grpc import from_rpc_error
from weir.frontier_proxy.recordings import pieces
from weir.v1 import frontier_proxy_pb2 as pb
from weir.v1 import types_pb2

SAMPLE = Path(__file__).parents[1] / "data" / "replay_sample.jsonl"
ROWS = [json.loads(line) for line in SAMPLE.read_text(encoding="utf-8").splitlines()]
PROMPT, ANSWER = ROWS[3]["prompt"], ROWS[3]["strong_answer"]


def replaying(settings: Settings, **fields: Any) -> Settings:
    provider = {
        "kind": "replay",
        "recording": SAMPLE,
        "tokens_per_second": 1e6,
        "replay_first_token_s": 0,
        **fields,
    }
    return configured(settings, frontier={"providers": {"demo": provider}})


@pytest.fixture
async def running(settings: Settings) -> AsyncIterator[Proxy]:
    with structlog.testing.capture_logs() as logs:
        async with proxy(replaying(settings)) as running:
            yield running
    assert any(log["event"] == "replay_active" and log["log_level"] == "warning" for log in logs)


async def test_a_recorded_prompt_gets_its_answer_marked_and_priced(running: Proxy) -> None:
    text, finished = await running.forward(ask(PROMPT))
    (usage,) = finished.usage
    assert text == ANSWER
    assert (usage.replay, usage.stand_in) == (True, False)
    assert (usage.model, usage.provider) == ("gpt-4o", "demo")
    read, written = len(pieces(PROMPT)), len(pieces(ANSWER))
    assert (usage.prompt_tokens, usage.completion_tokens) == (read, written)
    assert usage.cost_usd == pytest.approx((read * 2.5 + written * 10) / 1e6)


async def test_the_span_marks_it(running: Proxy) -> None:
    exporter = InMemorySpanExporter()
    test_tracing().add_span_processor(SimpleSpanProcessor(exporter))
    await running.forward(ask(PROMPT))
    (span,) = [span for span in exporter.get_finished_spans() if span.name == "chat gpt-4o"]
    assert span.attributes
    assert span.attributes[names.REPLAY] is True


async def test_another_prompt_gets_one_of_the_answers(running: Proxy) -> None:
    text, finished = await running.forward(ask("Why is the sky blue?"))
    assert text in {row["strong_answer"] for row in ROWS}
    assert finished.usage[0].replay


async def test_the_list_of_models_marks_it(running: Proxy) -> None:
    models = (await running.stub.ListModels(pb.ListModelsRequest())).models
    offered = [(model.model, model.provider, model.replay) for model in models if model.available]
    assert offered == [("gpt-4o", "demo", True)]


async def test_the_spending_names_the_provider(running: Proxy) -> None:
    _, finished = await running.forward(ask(PROMPT), tenant="acme")
    response = await running.stub.GetSpend(pb.GetSpendRequest(tenant="acme"))
    (row,) = response.spend
    assert (row.tenant, row.provider, row.model, row.attempts) == ("acme", "demo", "gpt-4o", 1)
    assert row.completion_tokens == finished.usage[0].completion_tokens
    assert row.settled_usd == pytest.approx(finished.usage[0].cost_usd)


async def test_the_ledger_itself_marks_what_was_spent_on_recordings(running: Proxy, tmp_path: Path) -> None:
    await running.forward(ask(PROMPT))
    await running.stub.GetSpend(pb.GetSpendRequest())
    with closing(sqlite3.connect(tmp_path / "state" / "ledger.sqlite3")) as ledger:
        found = ledger.execute("SELECT provider FROM weir_ledger_totals").fetchall()
    assert found == [("demo (replay)",)]


async def test_sent_text_is_gone_on_from(running: Proxy) -> None:
    half = ANSWER[: len(ANSWER) // 2]
    text, _ = await running.forward(ask(PROMPT, continue_from=half))
    assert half + text == ANSWER


async def test_a_format_is_refused(running: Proxy) -> None:
    request = ask(PROMPT)
    request.prompt.output.choices.choice.extend(["yes", "no"])
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await running.forward(request)
    assert from_rpc_error(caught.value).code is ErrorCode.UNSUPPORTED


async def test_local_only_is_refused_all_the_same(running: Proxy) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await running.forward(ask(PROMPT, residency=types_pb2.RESIDENCY_LOCAL_ONLY))
    assert from_rpc_error(caught.value).code is ErrorCode.RESIDENCY_FORBIDDEN


async def test_a_stop_string_ends_it(running: Proxy) -> None:
    request = ask(PROMPT)
    stop = ANSWER.split()[3]
    request.prompt.sampling.stop.append(stop)
    text, finished = await running.forward(request)
    assert text == ANSWER[: ANSWER.index(stop)]
    assert finished.finish_reason == types_pb2.FINISH_REASON_STOP


async def test_an_unusable_recording_keeps_the_proxy_from_starting(
    settings: Settings, tmp_path: Path
) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.touch()
    with pytest.raises(ConfigError, match=r"empty\.jsonl is empty"):
        async with proxy(replaying(settings, recording=empty)):
            pytest.fail("it started")
