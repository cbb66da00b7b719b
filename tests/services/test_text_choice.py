"""At which level a worker's drafts are judged, by what it says of itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.services.text_worker import TextWorker
from tests.services.verifier_bench import serving
from weir.common.calls import connect
from weir.common.errors import ErrorCode, WeirError
from weir.v1 import slm_worker_pb2_grpc
from weir.verifier.text_level import level
from weir.verifier.text_level.level import Level, Levels

OWN, OTHER = "1" * 64, "0" * 64


@pytest.fixture
def worker() -> TextWorker:
    return TextWorker(lambda said: "", tokenizer_sha256=OTHER)  # type: ignore[abstract]


@pytest.fixture
async def stub(worker: TextWorker) -> AsyncIterator[Any]:
    register = slm_worker_pb2_grpc.add_SlmWorkerServiceServicer_to_server
    async with (
        serving("writer", lambda server: register(worker, server)) as address,
        connect(address) as channel,
    ):
        yield slm_worker_pb2_grpc.SlmWorkerServiceStub(channel)


@pytest.mark.parametrize(
    ("sha256", "capabilities", "chosen"),
    [
        (OWN, ("session",), Level.TOKEN),
        (OTHER, ("session",), Level.TEXT),
        (OWN, (), Level.TEXT),
        ("", ("logprobs",), Level.TEXT),
    ],
)
async def test_tokens_are_judged_where_the_vocabulary_is_the_same_and_else_text(
    worker: TextWorker, stub: Any, sha256: str, capabilities: tuple[str, ...], chosen: Level
) -> None:
    worker.tokenizer_sha256, worker.capabilities = sha256, capabilities
    assert await Levels(lambda: OWN, "text").of(stub) is chosen


@pytest.mark.parametrize(
    ("capabilities", "code"), [((), ErrorCode.UNSUPPORTED), (("session",), ErrorCode.TOKENIZER_MISMATCH)]
)
async def test_text_is_refused_where_the_configuration_says_so(
    worker: TextWorker, stub: Any, capabilities: tuple[str, ...], code: ErrorCode
) -> None:
    worker.capabilities = capabilities
    with pytest.raises(WeirError) as refused:
        await Levels(lambda: OWN, "refuse").of(stub)
    assert refused.value.code is code
    assert "tiers.hybrid.other_tokenizers" in refused.value.hint


async def test_a_refusing_configuration_takes_drafts_of_the_same_vocabulary(
    worker: TextWorker, stub: Any
) -> None:
    worker.tokenizer_sha256, worker.capabilities = OWN, ("session",)
    assert await Levels(lambda: OWN, "refuse").of(stub) is Level.TOKEN


async def test_a_worker_is_asked_once_and_again_after_a_failure_or_a_while(
    worker: TextWorker, stub: Any
) -> None:
    now = 0.0
    levels = Levels(lambda: OWN, "text", clock=lambda: now)
    for _ in range(3):
        await levels.of(stub)
    assert worker.asked == 1
    levels.forget(stub)
    await levels.of(stub)
    assert worker.asked == 2
    now += level.REFRESH_S + 1
    worker.tokenizer_sha256, worker.capabilities = OWN, ("session",)
    assert await levels.of(stub) is Level.TOKEN
    assert worker.asked == 3


async def test_a_worker_that_says_nothing_of_itself_is_left_to_its_drafts() -> None:
    async with connect("127.0.0.1:1") as channel:
        unreachable: Any = slm_worker_pb2_grpc.SlmWorkerServiceStub(channel)
        assert await Levels(lambda: OWN, "refuse").of(unreachable) is Level.TOKEN
