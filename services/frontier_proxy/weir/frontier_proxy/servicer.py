"""FrontierProxyService: convert, delegate, yield."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

from weir.common.config.tenancy import ALL_TENANTS
from weir.common.context import current_call
from weir.common.grpc_types import ServicerContext
from weir.common.propagation import TENANT_KEY
from weir.common.tenancy.rights import visible_tenant
from weir.frontier_proxy import convert
from weir.frontier_proxy.ledger.base import Ledger
from weir.frontier_proxy.selection import Selection
from weir.frontier_proxy.tenants import TenantForwarder
from weir.v1 import frontier_proxy_pb2 as pb
from weir.v1 import frontier_proxy_pb2_grpc


class FrontierProxyServicer(frontier_proxy_pb2_grpc.FrontierProxyServiceServicer):
    """The service's three RPCs."""

    def __init__(
        self, forwarder: TenantForwarder, selection: Selection, ledger: Ledger, *, max_prompt_bytes: int
    ) -> None:
        self._forwarder, self._selection, self._ledger = forwarder, selection, ledger
        self._max_prompt_bytes = max_prompt_bytes

    async def Forward(
        self, request: pb.ForwardRequest, context: ServicerContext
    ) -> AsyncIterator[pb.ForwardResponse]:
        """Stream an answer."""
        spec = convert.forward_spec(request, self._max_prompt_bytes)
        async with aclosing(self._forwarder.forward(spec)) as events:
            async for event in events:
                yield convert.forward_response(event)

    async def ListModels(
        self, request: pb.ListModelsRequest, context: ServicerContext
    ) -> pb.ListModelsResponse:
        """List models with prices."""
        return pb.ListModelsResponse(models=map(convert.frontier_model, self._selection.models()))

    async def GetSpend(self, request: pb.GetSpendRequest, context: ServicerContext) -> pb.GetSpendResponse:
        """Return what is spent and reserved, and what is left of the budgets: the caller's own.

        The trailing metadata ``x-weir-tenant`` says whose that is, ``*`` for everybody's.
        """
        query = convert.spend_query(request, visible_tenant(current_call(), request.tenant))
        context.set_trailing_metadata(((TENANT_KEY, ALL_TENANTS if query.tenant is None else query.tenant),))
        rows, budgets = await asyncio.gather(self._ledger.spend(query), self._ledger.budgets(query.tenant))
        return convert.spend_response(rows, budgets)
