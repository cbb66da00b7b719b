"""Balancing, prefix affinity, ejection and name resolution."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.common.prompts import PromptSpec
from weir.engines.base import ChatMessage, Sampling
from weir.router.facts import affinity_key
from weir.router.upstreams.balancing import AFFINITY_SLACK, ReplicaLoad, home, pick
from weir.router.upstreams.ejection import FAILURES_TO_EJECT, FIRST_EJECTION_S, LONGEST_EJECTION_S, Circuit
from weir.router.upstreams.resolving import resolve

loads = st.lists(
    st.builds(
        ReplicaLoad,
        name=st.uuids().map(str),
        in_flight=st.integers(0, 100),
        running=st.integers(0, 100),
        waiting=st.integers(0, 100),
        capacity=st.integers(0, 100),
        kv_cache_used=st.floats(0, 1),
    ),
    min_size=1,
    max_size=8,
    unique_by=lambda load: load.name,
)


@given(loads, st.binary(max_size=64), st.integers())
def test_pick_returns_one_of_the_replicas(replicas: list[ReplicaLoad], key: bytes, seed: int) -> None:
    assert pick(replicas, key, Random(seed)) in {replica.name for replica in replicas}


@given(loads, st.binary(min_size=1, max_size=64), st.integers())
def test_home_is_kept_unless_it_is_notably_busier(replicas: list[ReplicaLoad], key: bytes, seed: int) -> None:
    by_name = {replica.name: replica for replica in replicas}
    wanted = by_name[home(list(by_name), key)]
    least = min(replica.pressure for replica in replicas)
    picked = pick(replicas, key, Random(seed))
    if wanted.pressure <= least + AFFINITY_SLACK:
        assert picked == wanted.name


@given(loads, st.integers())
def test_the_busiest_of_several_is_never_picked_without_a_home(
    replicas: list[ReplicaLoad], seed: int
) -> None:
    worst = max(replicas, key=lambda replica: replica.pressure)
    if sum(replica.pressure == worst.pressure for replica in replicas) == 1 and len(replicas) > 1:
        assert pick(replicas, b"", Random(seed)) != worst.name


@given(st.lists(st.uuids().map(str), min_size=2, max_size=8, unique=True), st.binary(min_size=1))
def test_home_moves_only_when_its_replica_goes(names: list[str], key: bytes) -> None:
    before = home(names, key)
    gone = next(name for name in names if name != before)
    assert home([name for name in names if name != gone], key) == before


def test_keys_spread_over_replicas() -> None:
    names = ["a:1", "b:1", "c:1"]
    homes = [home(names, f"prompt {index}".encode()) for index in range(300)]
    assert all(60 < homes.count(name) < 140 for name in names)


def test_scarce_cache_counts_as_load() -> None:
    full = ReplicaLoad("full", capacity=10, kv_cache_used=0.9)
    busy = ReplicaLoad("busy", running=5, capacity=10)
    assert pick([full, busy], b"", Random(0)) == "busy"


def test_requests_not_yet_reported_count_as_load() -> None:
    assert ReplicaLoad("a", in_flight=6, running=2, capacity=8).pressure == pytest.approx(0.75)


def test_affinity_ignores_what_follows_the_first_message() -> None:
    system, user = ChatMessage("system", "Be brief."), ChatMessage("user", "Hello")
    first = PromptSpec((system, user), Sampling(), None)
    later = PromptSpec(
        (system, user, ChatMessage("assistant", "Hi"), ChatMessage("user", "More")), Sampling(), None
    )
    other = PromptSpec((ChatMessage("system", "Be long."), user), Sampling(), None)
    assert affinity_key(first) == affinity_key(later) != affinity_key(other)


def test_circuit_opens_after_consecutive_failures_only() -> None:
    circuit = Circuit()
    for _ in range(FAILURES_TO_EJECT - 1):
        assert not circuit.failed(0)
    circuit.succeeded()
    for _ in range(FAILURES_TO_EJECT - 1):
        assert not circuit.failed(0)
    assert circuit.failed(10)
    assert circuit.ejected
    assert circuit.ejected_until == 10 + FIRST_EJECTION_S


def test_readmitted_replica_is_on_probation() -> None:
    circuit = Circuit()
    for _ in range(FAILURES_TO_EJECT):
        circuit.failed(0)
    circuit.readmit()
    assert not circuit.ejected
    assert circuit.failed(100)
    assert circuit.ejected_until == 100 + 2 * FIRST_EJECTION_S


@given(st.lists(st.sampled_from(["fail", "succeed", "readmit"]), max_size=200))
def test_ejection_time_is_bounded(events: list[str]) -> None:
    circuit = Circuit()
    for event in events:
        if event == "fail":
            circuit.failed(0)
        elif event == "succeed":
            circuit.succeeded()
        elif circuit.ejected:
            circuit.readmit()
        assert circuit.ejected_until is None or circuit.ejected_until <= LONGEST_EJECTION_S


async def test_addresses_are_kept_in_order_and_without_repetition() -> None:
    assert await resolve(["b:1", "a:1", "b:1"]) == ["b:1", "a:1"]


async def test_name_becomes_its_addresses() -> None:
    found = await resolve(["dns:///localhost:50052"])
    assert "127.0.0.1:50052" in found
    assert all(address.endswith(":50052") for address in found)


async def test_unknown_name_keeps_the_last_answer() -> None:
    assert await resolve(["dns:///no-such-host.invalid:1"], ["10.0.0.1:1"]) == ["10.0.0.1:1"]
