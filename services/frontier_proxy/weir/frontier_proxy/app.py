"""Puts the frontier proxy together."""

from __future__ import annotations

import os

import structlog

from weir.common.app import App
from weir.common.config import Settings
from weir.common.state import state_directory
from weir.frontier_proxy.configured import select
from weir.frontier_proxy.domain import to_nano
from weir.frontier_proxy.forward import Forwarder
from weir.frontier_proxy.ledger.sqlite import SqliteLedger
from weir.frontier_proxy.plan import Planner
from weir.frontier_proxy.providers.http import HttpClient
from weir.frontier_proxy.providers.stand_in import StandInProvider
from weir.frontier_proxy.servicer import FrontierProxyServicer
from weir.v1 import frontier_proxy_pb2, frontier_proxy_pb2_grpc

log = structlog.get_logger(__name__)
SERVICE = frontier_proxy_pb2.DESCRIPTOR.services_by_name["FrontierProxyService"].full_name


def build(settings: Settings) -> App:
    """Build the service; keys are read from the environment now.

    Raises:
        ConfigError: providers, prices or keys that cannot be used.
    """
    service = settings.services.frontier_proxy
    http, stand_in = HttpClient(), StandInProvider(service.stand_in_worker)
    selection = select(settings, os.environ, http, stand_in)
    budgets = {tenant: to_nano(usd) for tenant, usd in settings.frontier.budgets_usd.items()}
    ledger = SqliteLedger(state_directory(settings.state) / "ledger.sqlite3", budgets)
    planner = Planner(settings.tiers.frontier)
    forwarder = Forwarder(selection, ledger, planner, default_residency=settings.routing.default_residency)
    servicer = FrontierProxyServicer(
        forwarder, selection, ledger, max_prompt_bytes=settings.routing.max_prompt_bytes
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
        components=[ledger, http, stand_in],
    )
