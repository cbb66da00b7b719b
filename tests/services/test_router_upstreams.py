"""Replica pools on real servers: balance, affinity, ejection, re-admission, names."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from tests.services.scripted_upstreams import ScriptedVerifier, ScriptedWorker, Wire, ask, router_bench, serve
from weir.common.config import Settings
from weir.common.errors import ErrorCode, WeirError
from weir.router.upstreams import ejection, pool, replica
from weir.router.upstreams.kinds import SLM_WORKER, VERIFIER
from weir.router.upstreams.pool import ReplicaPool
from weir.router.upstreams.replica import Replica


@asynccontextmanager
async def pool_of(*workers: ScriptedWorker) -> AsyncIterator[tuple[ReplicaPool, list[Wire]]]:
    async with AsyncExitStack() as stack:
        wires = []
        for worker in workers:
            wire = Wire(await stack.enter_async_context(serve(worker)))
            await wire.open()
            stack.push_async_callback(wire.cut)
            wires.append(wire)
        replicas = ReplicaPool("slm_worker", [f"127.0.0.1:{wire.port}" for wire in wires], SLM_WORKER)
        stack.push_async_callback(replicas.aclose)
        await replicas.start()
        yield replicas, wires


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what it waits for is learned over the network
            await asyncio.sleep(0.01)


def found(replicas: ReplicaPool, wire: Wire) -> Replica:
    return replicas._replicas[f"127.0.0.1:{wire.port}"]


def spread(replicas: ReplicaPool, keys: list[bytes]) -> Counter[str]:
    taken: Counter[str] = Counter()
    for key in keys:
        with replicas.lease(key) as chosen:
            taken[chosen.address] += 1
    return taken


async def test_pool_knows_its_replicas_when_started() -> None:
    async with pool_of(ScriptedWorker(), ScriptedWorker()) as (replicas, wires):
        assert len(replicas.addresses) == len(wires) == 2
        assert [info.model for info in replicas.descriptions()] == ["smollm2-135m-instruct"] * 2


async def test_requests_go_to_the_less_loaded_replica() -> None:
    busy, idle = ScriptedWorker(), ScriptedWorker()
    async with pool_of(busy, idle) as (replicas, wires):
        busy.set_load(running=8, waiting=4, capacity=8)
        await until(lambda: found(replicas, wires[0]).load.pressure > 1)
        taken = spread(replicas, [f"key {index}".encode() for index in range(20)])
        assert set(taken) == {f"127.0.0.1:{wires[1].port}"}


async def test_own_requests_in_flight_count_before_they_are_reported() -> None:
    async with pool_of(ScriptedWorker(), ScriptedWorker()) as (replicas, _), AsyncExitStack() as held:
        for _ in range(10):
            held.enter_context(replicas.lease(b""))
        assert sorted(r.in_flight for r in replicas._replicas.values()) == [5, 5]


async def test_repeated_prefix_goes_to_one_replica_and_others_spread() -> None:
    async with pool_of(ScriptedWorker(), ScriptedWorker()) as (replicas, _):
        assert len(spread(replicas, [b"the same"] * 20)) == 1
        assert len(spread(replicas, [f"key {index}".encode() for index in range(40)])) == 2


async def test_affinity_yields_to_load() -> None:
    workers = [ScriptedWorker(), ScriptedWorker()]
    async with pool_of(*workers) as (replicas, wires):
        (home,) = spread(replicas, [b"prefix"])
        index = [f"127.0.0.1:{wire.port}" for wire in wires].index(home)
        workers[index].set_load(running=6, capacity=8)
        await until(lambda: found(replicas, wires[index]).load.running == 6)
        assert home not in spread(replicas, [b"prefix"] * 5)


async def test_replica_that_dies_is_left_out_at_once_and_comes_back() -> None:
    async with pool_of(ScriptedWorker(), ScriptedWorker()) as (replicas, wires):
        await wires[0].cut()
        await until(lambda: len(replicas.addresses) == 1)
        assert replicas.addresses == (f"127.0.0.1:{wires[1].port}",)
        await wires[0].open()
        await until(lambda: len(replicas.addresses) == 2)


async def test_repeated_failures_eject_and_a_probe_readmits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ejection, "FIRST_EJECTION_S", 0.05)
    async with pool_of(ScriptedWorker()) as (replicas, _):
        for _ in range(ejection.FAILURES_TO_EJECT):
            with pytest.raises(WeirError), replicas.lease(b""):
                raise WeirError(ErrorCode.ENGINE_CRASHED)
        assert not replicas.available
        with pytest.raises(WeirError) as caught, replicas.lease(b""):
            pass
        assert caught.value.code is ErrorCode.TIER_UNAVAILABLE
        async with asyncio.timeout(5):
            await replicas.wait_for(available=True)


async def test_ejected_replica_stays_out_while_its_probe_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ejection, "FIRST_EJECTION_S", 0.01)
    monkeypatch.setattr(replica, "LONGEST_BACKOFF_S", 0.05)
    async with pool_of(ScriptedWorker()) as (replicas, wires):
        for _ in range(ejection.FAILURES_TO_EJECT):
            found(replicas, wires[0]).failed()
        await wires[0].cut()
        await asyncio.sleep(0.2)
        assert not replicas.available
        await wires[0].open()
        async with asyncio.timeout(5):
            await replicas.wait_for(available=True)


@pytest.mark.parametrize("code", [ErrorCode.QUEUE_FULL, ErrorCode.INVALID_PROMPT, ErrorCode.INTERNAL])
async def test_refused_requests_say_nothing_against_a_replica(code: ErrorCode) -> None:
    async with pool_of(ScriptedWorker()) as (replicas, _):
        for _ in range(10):
            with pytest.raises(WeirError), replicas.lease(b""):
                raise WeirError(code)
        assert replicas.available


async def test_service_without_description_or_load_is_balanced_by_own_requests() -> None:
    async with serve(ScriptedVerifier()) as port:
        replicas = ReplicaPool("verifier", [f"127.0.0.1:{port}"], VERIFIER)
        await replicas.start()
        with replicas.lease(b"x") as chosen:
            assert chosen.load.in_flight == 1
        await replicas.aclose()
        await replicas.aclose()


async def test_replicas_follow_their_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "RESOLVE_EVERY_S", 0.02)
    async with serve(ScriptedWorker()) as first, serve(ScriptedWorker()) as second:
        answers = [f"127.0.0.1:{first}"]

        async def resolve(targets: object, known: object = ()) -> list[str]:
            return list(answers)

        monkeypatch.setattr(pool, "resolve", resolve)
        replicas = ReplicaPool("slm_worker", ["dns:///workers:1"], SLM_WORKER)
        await replicas.start()
        assert replicas.addresses == (f"127.0.0.1:{first}",)
        answers[:] = [f"127.0.0.1:{second}"]
        await until(lambda: replicas.addresses == (f"127.0.0.1:{second}",))
        await replicas.aclose()


async def test_unreachable_replica_does_not_hold_up_the_start() -> None:
    replicas = ReplicaPool("slm_worker", ["127.0.0.1:1"], SLM_WORKER)
    async with asyncio.timeout(5):
        await replicas.start()
    assert not replicas.available
    await replicas.aclose()


async def test_second_replica_answers_when_the_first_fails_before_its_first_token(settings: Settings) -> None:
    broken, sound = ScriptedWorker(), ScriptedWorker()
    broken.script.error = WeirError(ErrorCode.ENGINE_CRASHED)
    async with router_bench(settings, worker=sound) as bench, serve(broken) as port:
        # The pool of the running router learns of a replica that always fails.
        slm = next(c for c in bench.app._components if getattr(c, "name", "") == "slm_worker")
        assert isinstance(slm, ReplicaPool)
        slm._targets = [f"127.0.0.1:{port}", *slm._targets]
        await slm._follow()
        await until(lambda: len(slm.addresses) == 2)
        for index in range(6):
            events = [event async for event in bench.stub.Generate(ask(f"prompt {index}"))]
            assert [event.WhichOneof("event") for event in events] == [
                "decision",
                "delta",
                "delta",
                "finished",
            ]
        assert broken.script.calls
