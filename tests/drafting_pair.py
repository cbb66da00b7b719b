"""A drafting worker and a verifier over table models, joined in memory by the code of both services."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field
from typing import Any, cast

import grpc

from tests.table_model import VOCABULARY, TableSession
from weir.common.config.model import Drafting, LocalModel, SlmTier
from weir.common.inference import Inference
from weir.common.prompts import PromptSpec
from weir.engines.base import Capability, ChatMessage, EngineInfo, Sampling
from weir.slm_worker.servicer import SlmWorkerServicer
from weir.v1 import slm_worker_pb2
from weir.verifier.acceptance import Lossless, Rule, Takeover, Threshold, judge
from weir.verifier.answer import Answer
from weir.verifier.distribution import Shape, generator
from weir.verifier.drafts import drafting
from weir.verifier.events import Delta, Finished, Job, Residency
from weir.verifier.frontier import Frontier
from weir.verifier.measures import Recorder
from weir.verifier.rounds import Verification
from weir.verifier.speculation.muster import Muster, Place
from weir.verifier.speculation.planner import Outcome, Plan
from weir.verifier.upstream import Upstream

PROMPT = [1, 2, 3]
SHA256 = "5" * 64


class Codec:
    """One letter a token."""

    sha256 = SHA256
    vocab_size = VOCABULARY

    def __init__(self, stop_ids: frozenset[int] = frozenset()) -> None:
        self.stop_ids = stop_ids

    def encode_chat(self, messages: object) -> list[int]:
        del messages
        return list(PROMPT)

    def token_bytes(self, token: int) -> bytes:
        return bytes([97 + token])


class WaveringSession(TableSession):
    """The model of seed 0, but at every ``period``-th position that of another."""

    def __init__(self, period: int) -> None:
        self._period = period
        super().__init__()

    @property
    def _seed(self) -> int:
        return 1 if self._period and len(self.ids) % self._period == 0 else 0

    @_seed.setter
    def _seed(self, seed: int) -> None:
        del seed


@dataclass
class TableEngine:
    """Opens what sessions it is told to."""

    open_table: Callable[[], TableSession]
    codec: Codec
    sessions: list[TableSession] = field(default_factory=list)

    info = EngineInfo("table", "openvino", "", 4096, VOCABULARY, SHA256, frozenset({Capability.SESSION}))

    async def open_session(self) -> TableSession:
        self.sessions.append(self.open_table())
        return self.sessions[-1]


class _Call:
    """A Draft call of which each message takes so many turns of the event loop as ``turns`` says."""

    def __init__(self, servicer: SlmWorkerServicer, turns: Iterator[int]) -> None:
        self._requests: asyncio.Queue[slm_worker_pb2.DraftRequest] = asyncio.Queue()
        self._responses: asyncio.Queue[object] = asyncio.Queue()
        self._turns = turns
        self._task = asyncio.create_task(self._serve(servicer))

    async def write(self, request: slm_worker_pb2.DraftRequest) -> None:
        await self._delay()
        self._requests.put_nowait(request)

    async def read(self) -> object:
        return await self._responses.get()

    def cancel(self) -> None:
        self._task.cancel()

    async def _serve(self, servicer: SlmWorkerServicer) -> None:
        try:
            stream = servicer.Draft(self._incoming(), cast("Any", None))
            async with aclosing(stream) as responses:
                async for response in responses:
                    await self._delay()
                    self._responses.put_nowait(response)
        finally:
            self._responses.put_nowait(grpc.aio.EOF)

    async def _incoming(self) -> AsyncIterator[slm_worker_pb2.DraftRequest]:
        while True:
            yield await self._requests.get()
            await self._delay()

    async def _delay(self) -> None:
        for _ in range(next(self._turns)):
            await asyncio.sleep(0)


@dataclass
class Script:
    """The rounds of an answer as a test wants them; stands for a ``Pace``."""

    plans: Iterator[Plan]
    outcomes: list[Outcome] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.plan = next(self.plans)

    patience = 1.0

    def guesses(self, left: int) -> tuple[int, ...]:
        """Return tokens of a small vocabulary, some of which are right."""
        return tuple(1 + (left + step) % 11 for step in range(min(left - 1, left % 4)))

    def advance(self, outcome: Outcome, left: int) -> None:
        """Take the next plan, except at the answer's end."""
        self.outcomes.append(outcome)
        self.plan = next(self.plans) if left > 1 else Plan(0)


@dataclass
class Said:
    """What came of an answer."""

    ids: list[int]
    finished: Finished
    outcomes: list[Outcome]
    target: TableSession
    drafters: list[TableSession]


async def answer(
    script: Script,
    turns: Iterator[int],
    *,
    drafter: Callable[[], TableSession],
    max_tokens: int,
    stop_ids: frozenset[int] = frozenset(),
    sampling: Sampling | None = None,
    rule: Rule | None = None,
    method: str = "model",
    stub: Any = None,
) -> Said:
    """Write one answer with both sides and return it; ``stub`` is of a worker elsewhere."""
    chosen, accepted_by = sampling or Sampling(temperature=0.0), rule or Lossless()
    codec, target = Codec(stop_ids), TableSession()
    engine = TableEngine(drafter, codec)
    tier = SlmTier(drafting=Drafting.model_validate({"method": method}))
    servicer = SlmWorkerServicer(cast("Any", engine), cast("Any", None), cast("Any", None), tier)
    stub = stub or type("Stub", (), {"Draft": lambda _, **__: _Call(servicer, turns)})()
    spec = PromptSpec((ChatMessage("user", "x"),), _limited(chosen, max_tokens), None)
    job = Job("r", spec, accepted_by, Residency.LOCAL_ONLY, 0.0, 8)
    judged_by = judge(accepted_by, Shape.of(spec.sampling, None, None), generator(spec.sampling.seed))
    stretch = isinstance(accepted_by, Threshold) and accepted_by.takeover is Takeover.STRETCH
    verification = Verification(target, judged_by, stop_ids, None, stretch=stretch)
    deltas: list[Delta] = []
    with Inference("chat", engine.info, spec.sampling) as inference, Recorder(inference, "table") as recorder:
        frontier = Frontier(Upstream((), lambda _: cast("Any", None)))
        writing = Answer(job, cast("Any", engine), frontier, len(PROMPT), LocalModel(), recorder)
        async with AsyncExitStack() as local:
            drafts = await local.enter_async_context(
                drafting(
                    stub,
                    "r",
                    spec,
                    first=script.plan,
                    min_confidence=accepted_by.fallback_below if isinstance(accepted_by, Threshold) else 0.0,
                    tokenizer_sha256=SHA256,
                    vocab_size=VOCABULARY,
                )
            )
            await verification.prefill(PROMPT)
            async with aclosing(
                writing.stream(verification, drafts, cast("Any", script), local, Place(Muster()))
            ) as events:
                async for event in events:
                    if isinstance(event, Delta):
                        deltas.append(event)
                    elif isinstance(event, Finished):
                        finished = event
    ids = [token.id for delta in deltas for token in delta.tokens]
    return Said(ids, finished, script.outcomes, target, engine.sessions)


def _limited(sampling: Sampling, max_tokens: int) -> Sampling:
    return Sampling(max_tokens, sampling.temperature, sampling.top_p, sampling.top_k, sampling.seed)
