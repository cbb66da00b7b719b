"""The gRPC face of the verifier: convert, delegate, yield."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing

from weir.common.config import Settings
from weir.common.grpc_types import ServicerContext
from weir.common.prompts import prompt_from_proto
from weir.engines.base import SessionEngine
from weir.v1 import verifier_pb2, verifier_pb2_grpc
from weir.verifier import convert
from weir.verifier.assessment import Assessor
from weir.verifier.generate import Generator
from weir.verifier.verify import verify


class VerifierServicer(verifier_pb2_grpc.VerifierServiceServicer):
    """Implements ``weir.v1.VerifierService``."""

    def __init__(
        self, settings: Settings, engine: SessionEngine, generator: Generator, assessor: Assessor
    ) -> None:
        self._routing = settings.routing
        self._tier = settings.tiers.hybrid
        self._engine = engine
        self._generator = generator
        self._assessor = assessor

    async def GenerateVerified(
        self, request: verifier_pb2.GenerateVerifiedRequest, context: ServicerContext
    ) -> AsyncIterator[verifier_pb2.GenerateVerifiedResponse]:
        """Stream a verified answer."""
        del context
        job = convert.job(request, self._tier, self._routing)
        async with aclosing(self._generator.run(job)) as events:
            async for event in events:
                yield convert.event_response(event)

    async def Verify(
        self, request_iterator: AsyncIterator[verifier_pb2.VerifyRequest], context: ServicerContext
    ) -> AsyncIterator[verifier_pb2.VerifyResponse]:
        """Judge a drafter's chunks."""
        del context
        requests = convert.verify_requests(request_iterator, self._tier, self._routing.max_prompt_bytes)
        async with aclosing(requests), aclosing(verify(self._engine, self._tier, requests)) as verdicts:
            async for verdict in verdicts:
                yield convert.verify_response(verdict)

    async def Score(
        self, request: verifier_pb2.ScoreRequest, context: ServicerContext
    ) -> verifier_pb2.ScoreResponse:
        """Score a continuation."""
        del context
        spec = prompt_from_proto(request.prompt, max_bytes=self._routing.max_prompt_bytes)
        tokens = await self._assessor.score(spec, request.continuation, request.top_logprobs)
        return convert.score_response(tokens, request.top_logprobs)

    async def Check(
        self, request: verifier_pb2.CheckRequest, context: ServicerContext
    ) -> verifier_pb2.CheckResponse:
        """Check a finished answer."""
        del context
        spec = convert.check_spec(request, self._routing.max_prompt_bytes)
        verdict = await self._assessor.check(spec, request.answer, tuple(request.sources))
        return verifier_pb2.CheckResponse(
            valid=not verdict.violation, violation=verdict.violation, grounded=verdict.grounded
        )
