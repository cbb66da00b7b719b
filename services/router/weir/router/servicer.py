"""RouterService: convert, delegate, yield."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing

from weir.common.config.routing import Routing
from weir.common.context import current_call
from weir.common.grpc_types import ServicerContext
from weir.common.tenancy.guard import TenantGuard
from weir.router import convert
from weir.router.control.convert import Introspection
from weir.router.domain import Ask, Residency
from weir.router.facts import estimate_tokens
from weir.router.generate import DataPlane
from weir.router.tokens import counted
from weir.v1 import router_pb2, router_pb2_grpc


class RouterServicer(router_pb2_grpc.RouterServiceServicer):
    """The front door. Errors leave as WeirError; the interceptor turns them into statuses."""

    def __init__(
        self, plane: DataPlane, routing: Routing, introspection: Introspection, guard: TenantGuard
    ) -> None:
        self._plane = plane
        self._routing = routing
        self._introspection = introspection
        self._rights, self._limits = guard.rights, guard.limits

    async def Generate(
        self, request: router_pb2.GenerateRequest, context: ServicerContext
    ) -> AsyncGenerator[router_pb2.GenerateResponse]:
        """Route and answer."""
        del context
        ask = self._ask(request, request.request_id)
        with self._limits.tokens(current_call().tenant, estimate_tokens(ask.prompt)) as use:
            async with aclosing(counted(self._plane.generate(ask), use)) as events:
                async for event in events:
                    yield convert.event_to_proto(event)

    async def Route(
        self, request: router_pb2.RouteRequest, context: ServicerContext
    ) -> router_pb2.RouteResponse:
        """Return the decision alone."""
        del context
        decision = await self._plane.route(self._ask(request, ""))
        return router_pb2.RouteResponse(decision=convert.decision_to_proto(decision))

    async def SendFeedback(
        self, request: router_pb2.SendFeedbackRequest, context: ServicerContext
    ) -> router_pb2.SendFeedbackResponse:
        """Store a label."""
        del context
        feedback = convert.feedback_from_proto(request)
        await self._plane.label(request.decision_id, feedback)
        return router_pb2.SendFeedbackResponse()

    async def GetStatus(
        self, request: router_pb2.GetStatusRequest, context: ServicerContext
    ) -> router_pb2.GetStatusResponse:
        """Return what the router does at present and why."""
        del request, context
        return self._introspection.status()

    def _ask(self, request: router_pb2.GenerateRequest | router_pb2.RouteRequest, request_id: str) -> Ask:
        call = current_call()
        default = self._rights.residency(call.tenant) or self._routing.default_residency
        return convert.ask_from_proto(
            request,
            request_id or call.request_id or uuid.uuid4().hex,
            default_residency=Residency(default),
            max_prompt_bytes=self._routing.max_prompt_bytes,
        )
