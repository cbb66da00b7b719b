"""Replicas that share the controller's state through a real Valkey server."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest
from structlog.testing import capture_logs
from valkey.asyncio import Valkey

from tests.valkey_server import ValkeyServer, server_binary
from weir.common.config import ConfigError, Settings
from weir.router.case import Bounds, Case, Estimate
from weir.router.control.controller import Controller
from weir.router.control.shared import ValkeyState, shared_state
from weir.router.control.simulation import VirtualClock
from weir.router.control.state import State, initial
from weir.router.control.summary import Measured, Summary
from weir.router.domain import Tier

BINARY = server_binary()
HOME = Bounds()
pytestmark = pytest.mark.skipif(BINARY is None, reason="no valkey-server or redis-server here")


@pytest.fixture
def server() -> Iterator[ValkeyServer]:
    running = ValkeyServer(BINARY or "")
    running.start()
    yield running
    running.remove()


def replica(server: ValkeyServer, fresh_s: float = 30.0) -> ValkeyState:
    return ValkeyState(server.address, "test", fresh_s=fresh_s, kept_s=60)


def moved(state: State, complexity: float, now: float) -> State:
    to = msgspec.structs.replace(state, complexity=complexity).bounds(HOME)
    return state.moved(to, now, "relieving", "slow")


def answered(count: int) -> Summary:
    return Summary({tier: Measured(count=count, weight=count, squares=count) for tier in Tier})


async def test_summaries_of_all_replicas_are_added_up(server: ValkeyServer) -> None:
    one, other = replica(server), replica(server)
    assert (await one.merge(answered(3))).count == 9
    assert (await other.merge(answered(4))).count == 21
    assert (await one.merge(answered(5))).count == 27
    await one.aclose()
    await other.aclose()


async def test_summary_of_a_replica_that_went_away_is_dropped(server: ValkeyServer) -> None:
    one, other = replica(server), replica(server, fresh_s=0.0)
    await one.merge(answered(3))
    assert (await other.merge(answered(4))).count == 12
    await one.aclose()
    await other.aclose()


async def test_foreign_summary_is_left_out_and_named(server: ValkeyServer) -> None:
    one = replica(server)
    await one.merge(answered(3))
    async with Valkey.from_url(server.address) as client:
        await client.hset("weir:{control:test}:summaries", "other", b"\x93nonsense")
    with capture_logs() as logs:
        assert (await one.merge(answered(3))).count == 9
    assert [entry["event"] for entry in logs] == ["shared_state_foreign"]
    await one.aclose()


async def test_first_of_two_moves_at_once_wins(server: ValkeyServer) -> None:
    one, other = replica(server), replica(server)
    first = moved(initial(HOME), 0.8, now=100.0)
    assert await one.agree(first, 100.0) == first
    found = await other.agree(moved(initial(HOME), 0.9, now=5000.0), 5000.0)
    assert (found.complexity, found.version) == (0.8, 1)
    await one.aclose()
    await other.aclose()


async def test_times_of_a_shared_move_are_right_by_every_clock(server: ValkeyServer) -> None:
    one, other = replica(server), replica(server)
    await one.agree(moved(initial(HOME), 0.8, now=93.0), 100.0)
    found = await other.agree(initial(HOME), 5000.0)
    assert found.moved_at == pytest.approx(4993.0, abs=5)
    assert found.moves[0].at == found.moved_at
    await one.aclose()
    await other.aclose()


async def test_replica_without_the_server_goes_on_alone_says_so_and_rejoins(server: ValkeyServer) -> None:
    state = replica(server)
    await state.agree(initial(HOME), 0.0)
    server.stop()
    with capture_logs() as logs:
        alone = moved(initial(HOME), 0.8, now=1.0)
        assert await state.agree(alone, 1.0) == alone
        assert await state.merge(answered(2)) == answered(2)
        assert not state.connected
        server.start()
        assert await state.agree(alone, 2.0) == alone
        assert state.connected
    assert [entry["event"] for entry in logs] == ["shared_state_lost", "shared_state_joined"]
    other = replica(server)
    assert (await other.agree(initial(HOME), 2.0)).complexity == 0.8
    await state.aclose()
    await other.aclose()


async def test_replicas_move_together_on_what_they_saw_together(
    server: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEIR_TEST_SHARED", server.address)
    adjustment = {"enabled": True, "target": 0.6, "window_seconds": 60}
    settings = Settings.model_validate(
        {"routing": {"dynamic_adjustment": adjustment}, "state": {"shared_env": "WEIR_TEST_SHARED"}}
    )
    clock = VirtualClock()
    clock.now = 100.0
    replicas = [Controller(settings, shared=shared_state(settings), clock=clock) for _ in range(2)]
    for number in range(30):
        for controller in replicas:
            # Alone neither has seen enough.
            tier = Tier.FRONTIER if number % 3 == 0 else Tier.SLM
            controller.observe(
                _case(tier), tier, first_token_s=2.0 if tier is Tier.FRONTIER else 0.1, cost_usd=0
            )
    for _ in range(2):
        for controller in replicas:
            await controller.refresh()
    bounds = {controller.bounds() for controller in replicas}
    assert len(bounds) == 1
    assert bounds.pop().complexity > 0.72
    assert all(controller.status().shared for controller in replicas)
    assert {controller.status().state.version for controller in replicas} == {1}
    for controller in replicas:
        await controller.aclose()


def _case(tier: Tier) -> Case:
    complexity = 0.8 if tier is Tier.FRONTIER else 0.1
    estimates = {other: Estimate(0.8, 0.1) for other in Tier}
    return Case(complexity, 0.1, tuple(Tier), estimates=estimates)


def test_variable_without_an_address_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WEIR_TEST_SHARED", raising=False)
    settings = Settings.model_validate({"state": {"shared_env": "WEIR_TEST_SHARED"}})
    with pytest.raises(ConfigError, match="WEIR_TEST_SHARED"):
        shared_state(settings)
    assert shared_state(Settings()) is None
