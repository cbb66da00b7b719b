"""Where the report comes from: the proxy's ledger over gRPC, and the router's receipts on this machine."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from datetime import date

import grpc

from weir.client.errors import WeirClientError, from_rpc_error
from weir.common.channels import connect
from weir.common.config import Settings
from weir.spending.convert import report_of
from weir.spending.receipts import Receipts
from weir.spending.report import Report, Wanted
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
        """Return the report. Raises WeirClientError where the proxy tells nothing."""
        request = pb.GetSpendRequest(
            tenant=wanted.tenant or "",
            by_day=wanted.by_day,
            from_day=_iso(wanted.first),
            to_day=_iso(wanted.last),
        )
        (spend, models), savings = await asyncio.gather(
            self._ask(request), self._savings.rows(wanted) if self._receipts else _nothing()
        )
        return report_of(spend, models, savings)

    async def _ask(self, request: pb.GetSpendRequest) -> tuple[pb.GetSpendResponse, pb.ListModelsResponse]:
        if self._channel is None:
            self._channel = connect(self.target)
        stub = frontier_proxy_pb2_grpc.FrontierProxyServiceStub(self._channel)
        try:
            return await asyncio.gather(
                stub.GetSpend(request, timeout=TIMEOUT_S, metadata=self._metadata),
                stub.ListModels(pb.ListModelsRequest(), timeout=TIMEOUT_S, metadata=self._metadata),
            )
        except grpc.aio.AioRpcError as error:
            raise _told(from_rpc_error(error), self.target) from None


async def _nothing() -> None:
    return None


def _iso(day: date | None) -> str:
    return day.isoformat() if day else ""


def _told(error: WeirClientError, target: str) -> WeirClientError:
    # A status of ours names its reason; a bare one comes from the connection.
    if error.status is grpc.StatusCode.UNAVAILABLE and not error.reason:
        return WeirClientError(
            error.status, f"No frontier proxy answers at {target}; start one with `weir up`."
        )
    return error
