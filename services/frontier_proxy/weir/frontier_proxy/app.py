"""Puts the frontier proxy together."""

from __future__ import annotations

import os

import structlog

from weir.common.app import App
from weir.common.config import Settings
from weir.common.tenancy.guard import TenantGuard
from weir.frontier_proxy.answer import Means
from weir.frontier_proxy.circuits import observe
from weir.frontier_proxy.configured import select
from weir.frontier_proxy.forward import Forwarder
from weir.frontier_proxy.hedging import Hedges
from weir.frontier_proxy.ledger.opening import open_ledger
from weir.frontier_proxy.ledger.recovery import Recovery
from weir.frontier_proxy.plan import Planner
from weir.frontier_proxy.providers.http import HttpClient
from weir.frontier_proxy.providers.stand_in import StandInProvider
from weir.frontier_proxy.redacted import names_of
from weir.frontier_proxy.retries import RetryPolicy
from weir.frontier_proxy.servicer import FrontierProxyServicer
from weir.frontier_proxy.tenants import TenantForwarder
from weir.v1 import frontier_proxy_pb2, frontier_proxy_pb2_grpc

log = structlog.get_logger(__name__)
SERVICE = frontier_proxy_pb2.DESCRIPTOR.services_by_name["FrontierProxyService"].full_name
# What asks who calls, and what of it counts as a request; ListModels is open.
AUTHENTICATED, COUNTED = ("Forward", "GetSpend"), ("Forward",)


def build(settings: Settings) -> App:
    """Build the service; keys are read from the environment now.

    Raises:
        ConfigError: providers, prices or keys that cannot be used.
    """
    service = settings.services.frontier_proxy
    http, stand_in = HttpClient(), StandInProvider(service.stand_in_worker)
    selection = select(settings, os.environ, http, stand_in)
    observe(selection)
    ledger = open_ledger(settings)
    frontier = settings.frontier
    means = Means(
        Planner(settings.tiers.frontier, names_of(frontier.names_model)),
        ledger,
        RetryPolicy(frontier.retries),
        Hedges(frontier.hedging),
        continues=frontier.after_first_text == "continue",
    )
    forwarder = Forwarder(selection, means, default_residency=settings.routing.default_residency)
    guard = TenantGuard(settings.tenancy, os.environ, methods=AUTHENTICATED, counted=COUNTED)
    servicer = FrontierProxyServicer(
        TenantForwarder(forwarder, guard.rights, guard.limits),
        selection,
        ledger,
        max_prompt_bytes=settings.routing.max_prompt_bytes,
    )
    if selection.stand_in:
        model = settings.tiers.frontier.model_id
        log.warning("stand_in_active", model=model, reason="no key is set for the frontier model")
    return App(
        "frontier_proxy",
        service,
        settings,
        register=lambda server: frontier_proxy_pb2_grpc.add_FrontierProxyServiceServicer_to_server(
            servicer, server
        ),
        grpc_services=[SERVICE],
        components=[guard, ledger, Recovery(ledger.recover), http, stand_in],
        guards=[guard],
    )
