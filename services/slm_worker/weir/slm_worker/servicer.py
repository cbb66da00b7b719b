"""The gRPC face of the worker: converts, delegates, yields."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from weir.common.config.model import SlmTier
from weir.common.context import current_call
from weir.common.grpc_types import ServicerContext
from weir.common.prompts import prompt_from_proto
from weir.engines.base import Engine
from weir.slm_worker import convert
from weir.slm_worker.admission import Admission
from weir.slm_worker.choice import Choice
from weir.slm_worker.completion import Account, complete
from weir.slm_worker.draft_stream import draft
from weir.slm_worker.load import LoadBoard
from weir.v1 import slm_worker_pb2, slm_worker_pb2_grpc


class SlmWorkerServicer(slm_worker_pb2_grpc.SlmWorkerServiceServicer):
    """Serves one small model."""

    def __init__(self, engine: Engine, admission: Admission, board: LoadBoard, tier: SlmTier) -> None:
        self._engine, self._admission, self._board, self._tier = engine, admission, board, tier
        self._drafts_seen = Choice()

    async def Complete(
        self, request: slm_worker_pb2.CompleteRequest, context: ServicerContext
    ) -> AsyncGenerator[slm_worker_pb2.CompleteResponse, None]:
        """Answer a prompt."""
        spec, info = prompt_from_proto(request.prompt), self._engine.info
        wanted = convert.generation_request(request, spec, current_call().request_id, info)
        run = self._tier.run
        async with aclosing(complete(self._engine, self._admission, wanted, run)) as answer:
            async for item in answer:
                if isinstance(item, Account):
                    yield slm_worker_pb2.CompleteResponse(finished=convert.finished(item, info))
                else:
                    yield convert.delta(item)

    async def Draft(
        self, request_iterator: AsyncIterator[slm_worker_pb2.DraftRequest], context: ServicerContext
    ) -> AsyncGenerator[slm_worker_pb2.DraftResponse, None]:
        """Draft for a verifier and follow its verdicts."""
        start = await convert.draft_start(request_iterator)
        spec, chunking, info = prompt_from_proto(start.prompt), convert.chunking(start), self._engine.info
        verdicts = convert.verdicts(request_iterator, info.vocab_size)
        drafts = draft(self._engine, spec, verdicts, chunking, self._tier, self._drafts_seen)
        async with aclosing(drafts) as drafted:
            async for item in drafted:
                if isinstance(item, Account):
                    yield slm_worker_pb2.DraftResponse(finished=convert.finished(item, info))
                else:
                    yield convert.chunk(item, info.tokenizer_sha256)

    async def GetModelInfo(
        self, request: slm_worker_pb2.GetModelInfoRequest, context: ServicerContext
    ) -> slm_worker_pb2.GetModelInfoResponse:
        """Say what runs here."""
        return convert.model_info(self._engine.info)

    async def WatchLoad(
        self, request: slm_worker_pb2.WatchLoadRequest, context: ServicerContext
    ) -> AsyncGenerator[slm_worker_pb2.WatchLoadResponse, None]:
        """Tell the load, then again whenever it changes."""
        async with aclosing(self._board.watch()) as loads:
            async for present in loads:
                yield convert.load(present)
