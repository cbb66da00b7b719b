"""Where the report comes from: the proxy's ledger over gRPC, and the router's receipts on this machine."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import replace
from datetime import date

import grpc

from weir.client.errors import WeirClientError, from_rpc_error
from weir.common.channels import connect
from weir.common.config import Settings
from weir.common.config.tenancy import ALL_TENANTS
from weir.common.propagation import TENANT_KEY
from weir.spending.convert import report_of
from weir.spending.receipts import Receipts
from weir.spending.report import Report, Saved, Wanted
from weir.v1 import frontier_proxy_pb2 as pb
from weir.v1 import frontier_proxy_pb2_grpc

TIMEOUT_S = 10.0


def untraced() -> tuple[str, str]:
    """Return the metadata (W3C Trace Context, not sampled) by which a question leaves no spans.

    For who asks again and again: the trace page keeps a bounded number of traces.
    """
    return ("traceparent", f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-00")


class SpendSource:
    """Asks for reports; to be closed.

    Args:
        settings: where the receipts are.
        target: host:port of the frontier proxy.
        receipts: whether those on this machine are the ones that belong to it.
        metadata: sent along, such as a tenant's key.
    """

    def __init__(
        self,
        settings: Settings,
        target: str,
        *,
        receipts: bool = True,
        metadata: Sequence[tuple[str, str]] = (),
    ) -> None:
        self.target = target
        self._receipts, self._metadata = receipts, tuple(metadata)
        self._channel: grpc.aio.Channel | None = None
        self._savings = Receipts(settings.state)

    async def aclose(self) -> None:
        """Close the connection; idempotent."""
        channel, self._channel = self._channel, None
        if channel:
            await channel.close()

    async def report(self, wanted: Wanted) -> Report:
        """Return the report: of all that the proxy shows to who asks, savings too.

        Raises WeirClientError where the proxy tells nothing.
        """
        request = pb.GetSpendRequest(
            tenant=wanted.tenant or "",
            by_day=wanted.by_day,
            from_day=_iso(wanted.first),
            to_day=_iso(wanted.last),
        )
        spend, models, whose = await self._ask(request)
        return report_of(spend, models, await self._saved(wanted, whose))

    async def _ask(
        self, request: pb.GetSpendRequest
    ) -> tuple[pb.GetSpendResponse, pb.ListModelsResponse, str | None]:
        """Ask the proxy; returns also whose spending it shows, ``None`` where it does not say."""
        if self._channel is None:
            self._channel = connect(self.target)
        stub = frontier_proxy_pb2_grpc.FrontierProxyServiceStub(self._channel)
        call = stub.GetSpend(request, timeout=TIMEOUT_S, metadata=self._metadata)
        listing = stub.ListModels(pb.ListModelsRequest(), timeout=TIMEOUT_S, metadata=self._metadata)
        try:
            spend, models = await asyncio.gather(call, listing)
        except grpc.aio.AioRpcError as error:
            raise _told(from_rpc_error(error), self.target) from None
        whose = (await call.trailing_metadata()).get(TENANT_KEY)
        return spend, models, whose if isinstance(whose, str) else None

    async def _saved(self, wanted: Wanted, whose: str | None) -> list[Saved] | None:
        """Sum the receipts of those whose spending is shown: the proxy knows who asks, the file does not."""
        if not self._receipts or whose is None:
            return None
        return await self._savings.rows(replace(wanted, tenant=None if whose == ALL_TENANTS else whose))


def _iso(day: date | None) -> str:
    return day.isoformat() if day else ""


def _told(error: WeirClientError, target: str) -> WeirClientError:
    # A status of ours names its reason; a bare one comes from the connection.
    if error.status is grpc.StatusCode.UNAVAILABLE and not error.reason:
        return WeirClientError(
            error.status, f"No frontier proxy answers at {target}; start one with `weir up`."
        )
    return error
