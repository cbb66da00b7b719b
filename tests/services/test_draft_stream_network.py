"""Worker and verifier over gRPC: the same answers as in memory, and without the worker when it goes."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, cast

import pytest

from tests.drafting_pair import PROMPT, Codec, Script, TableEngine, WaveringSession, answer
from tests.services.verifier_bench import serving
from tests.table_model import TableSession, greedy
from weir.common.calls import connect
from weir.common.config.model import Drafting, SlmTier
from weir.slm_worker.servicer import SlmWorkerServicer
from weir.v1 import slm_worker_pb2_grpc
from weir.verifier.speculation.planner import Plan

TOKENS = 60


@asynccontextmanager
async def worker(engine: TableEngine) -> AsyncIterator[str]:
    """Serve drafts; yields the address."""
    tier = SlmTier(drafting=Drafting(method="model"))
    servicer = SlmWorkerServicer(cast("Any", engine), cast("Any", None), cast("Any", None), tier)

    def register(server: Any) -> None:
        slm_worker_pb2_grpc.add_SlmWorkerServiceServicer_to_server(servicer, server)

    async with serving("worker", register) as address:
        yield address


async def write(channel: Any, plans: Iterator[Plan]) -> list[int]:
    stub = slm_worker_pb2_grpc.SlmWorkerServiceStub(channel)
    script = Script(plans)
    said = await answer(script, itertools.repeat(0), drafter=TableSession, max_tokens=TOKENS, stub=stub)
    return said.ids


@pytest.mark.parametrize("ahead", [1, 2])
@pytest.mark.parametrize("period", [0, 3])
async def test_eight_answers_at_once_are_the_verifiers_own(ahead: int, period: int) -> None:
    engine = TableEngine(lambda: WaveringSession(period), Codec())
    plans = [Plan(4, ahead), Plan(2, ahead), Plan(0, ahead)]
    async with worker(engine) as address, connect(address) as channel, asyncio.timeout(30):
        answers = await asyncio.gather(*(write(channel, itertools.cycle(plans)) for _ in range(8)))
    assert answers == [greedy(PROMPT, TOKENS)] * 8
    assert len(engine.sessions) == 8
    assert all(session.closed for session in engine.sessions)


async def test_a_worker_that_is_shut_down_leaves_the_verifier_to_finish() -> None:
    engine = TableEngine(TableSession, Codec())
    asked = asyncio.Event()

    def plans() -> Iterator[Plan]:
        yield Plan(4)
        asked.set()
        yield from itertools.repeat(Plan(4))

    async with asyncio.timeout(30), AsyncExitStack() as stack:
        async with worker(engine) as address:
            channel = await stack.enter_async_context(connect(address))
            writing = asyncio.create_task(write(channel, plans()))
            await asked.wait()
        assert await writing == greedy(PROMPT, TOKENS)
    assert all(session.closed for session in engine.sessions)
