"""What a running router tells of itself, by GetStatus and by `weir router status`."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest
from structlog.testing import capture_logs
from typer.testing import CliRunner

from tests.services.scripted_upstreams import router_bench
from weir.client import WeirClient
from weir.common.config import Settings
from weir.common.errors import ErrorCode, WeirError
from weir.router.cli import router_app
from weir.router.control.controller import Controller
from weir.router.control.convert import controller_to_proto
from weir.router.control.simulation import VirtualClock
from weir.v1 import types_pb2


async def test_status_tells_thresholds_and_how_each_tier_fares(settings: Settings) -> None:
    async with router_bench(settings) as bench, WeirClient(f"127.0.0.1:{bench.app.port}") as client:
        bench.worker.script.error = WeirError(ErrorCode.ENGINE_CRASHED)
        await bench.generate()
        status = await client.status(timeout=5)
    tiers = {tier.tier: tier for tier in status.tiers}
    slm, hybrid = tiers[types_pb2.TIER_SLM], tiers[types_pb2.TIER_HYBRID]
    assert (slm.error_rate, hybrid.error_rate) == (1, 0)
    assert slm.share == pytest.approx(0.5, abs=0.01)
    assert not slm.HasField("p95_first_token")
    assert hybrid.p95_first_token.ToNanoseconds() > 0
    assert all(tier.available for tier in status.tiers)
    assert not status.controller.enabled
    assert round(status.controller.complexity_threshold, 2) == 0.72
    assert not status.controller.moves


async def test_command_prints_status_as_json_and_as_tables(settings: Settings) -> None:
    async with router_bench(settings) as bench:
        arguments = ["status", "--router", f"127.0.0.1:{bench.app.port}"]
        # The router's own log, in this process, is no part of the command's output.
        with capture_logs():
            as_json = await asyncio.to_thread(CliRunner().invoke, router_app, [*arguments, "--json"])
            as_text = await asyncio.to_thread(CliRunner().invoke, router_app, arguments)
    assert json.loads(as_json.stdout)["controller"]["metric"] == "p95_latency"
    assert (as_json.exit_code, as_text.exit_code) == (0, 0)
    assert "complexity threshold" in as_text.stdout
    assert "frontier" in as_text.stdout


def test_command_says_that_no_router_answers() -> None:
    result = CliRunner().invoke(router_app, ["status", "--router", "127.0.0.1:1", "--timeout", "2"])
    assert result.exit_code == 1
    assert "No status from 127.0.0.1:1" in result.stderr


def test_moves_are_told_with_their_age_and_reason() -> None:
    clock = VirtualClock()
    clock.now = 100.0
    status = Controller(Settings(), clock=clock).status()
    moved = status.state.moved(replace(status.law.home, complexity=0.8), 70.0, "relieving", "slow")
    told = controller_to_proto(replace(status, state=moved, shared=True))
    assert told.shared
    (move,) = told.moves
    assert (move.age.seconds, round(move.before, 2), round(move.after, 2)) == (30, 0.72, 0.8)
    assert move.reason == "complexity: slow"
