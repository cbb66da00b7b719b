"""The hybrid tier's loop with both engines beside it in one process: no gRPC, nothing else changed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, cast

from weir.cli.verification.local_drafts import LocalStub, LocalUpstream, Servicer
from weir.cli.verification.pair import Pair
from weir.cli.verification.streams import Answer, taken
from weir.common.config import Settings
from weir.slm_worker.admission import Admission
from weir.slm_worker.load import LoadBoard
from weir.slm_worker.servicer import SlmWorkerServicer
from weir.v1 import types_pb2, verifier_pb2
from weir.verifier import convert
from weir.verifier.checking.checker import Checker
from weir.verifier.frontier import Frontier
from weir.verifier.generate import Generator
from weir.verifier.upstream import Upstream


class OneProcess:
    """Worker and verifier without their servers.

    Args:
        drafting: whether the worker drafts; without it the verifier writes alone.
        settings: sections of the configuration, as for the services.
    """

    def __init__(self, pair: Pair, settings: dict[str, Any], *, drafting: bool = True) -> None:
        self._settings = Settings.model_validate(settings)
        self._generator = Generator(
            pair.target,
            self._settings.tiers.hybrid,
            cast("Upstream[Any]", LocalUpstream(self._stub(pair) if drafting else None)),
            Frontier(Upstream([], lambda channel: cast("Any", channel))),
            Checker(),
        )

    async def answer(self, wanted: types_pb2.Prompt) -> Answer:
        """Answer a prompt."""
        request = verifier_pb2.GenerateVerifiedRequest(
            prompt=wanted, residency=types_pb2.RESIDENCY_LOCAL_ONLY
        )
        return await taken(lambda: self._responses(request))

    def _stub(self, pair: Pair) -> LocalStub:
        tier = self._settings.tiers.slm
        admission = Admission(tier.run.max_running, tier.run.max_waiting)
        board = LoadBoard(pair.drafter, admission)
        return LocalStub(cast("Servicer", SlmWorkerServicer(pair.drafter, admission, board, tier)))

    async def _responses(self, request: verifier_pb2.GenerateVerifiedRequest) -> AsyncIterator[Any]:
        job = convert.job(request, self._settings.tiers.hybrid, self._settings.routing)
        async with aclosing(self._generator.run(job)) as events:
            async for event in events:
                yield convert.event_response(event)
