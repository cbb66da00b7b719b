"""Puts the router together."""

from __future__ import annotations

import os
from pathlib import Path

import grpc

from weir.common.app import App
from weir.common.config import Settings
from weir.common.config.routing import Routing
from weir.common.state import state_directory
from weir.common.tenancy.guard import TenantGuard
from weir.router.classifier import artifact
from weir.router.classifier.base import LoadClassifier
from weir.router.classifier.judge import build_judge
from weir.router.classifier.model import Classifier
from weir.router.classifier.providers import available
from weir.router.control.controller import Controller
from weir.router.control.convert import Introspection
from weir.router.control.shared import shared_state
from weir.router.fleet import Fleet
from weir.router.generate import DataPlane
from weir.router.jobs import JobFactory
from weir.router.live.convert import reports_to_proto
from weir.router.live.outcomes import Outcomes
from weir.router.metrics import RouterMetrics
from weir.router.planner import Planner
from weir.router.receipts.store import ReceiptStore, database_of
from weir.router.servicer import RouterServicer
from weir.router.statistics import Statistics
from weir.v1 import router_pb2_grpc

# What asks who calls, and what of it counts as a request; GetStatus is open.
AUTHENTICATED = ("Generate", "Route", "SendFeedback")
COUNTED = ("Generate", "Route")


def build(settings: Settings, load_classifier: LoadClassifier | None = None) -> App:
    """Return the router, not yet started; it is healthy while any tier can be reached.

    Raises:
        ConfigError: rules or tenant policies that cannot be followed, or tenants' keys that cannot be used.
        WeirError: MODEL_UNAVAILABLE where the classifier's artifact cannot be read.
    """
    routing, observability = settings.routing, settings.observability
    statistics = Statistics(routing.dynamic_adjustment.window_seconds)
    controller = Controller(settings, shared=shared_state(settings))
    fleet = Fleet(settings, statistics)
    state = state_directory(settings.state)
    judge = build_judge(routing, load_classifier or _loader(routing, state), state / "rolled_back.json")
    planner = Planner(settings, fleet, controller, judge, _domains(routing))
    store = ReceiptStore(database_of(settings.state), settings.state.receipts)
    plane = DataPlane(
        planner,
        fleet,
        JobFactory(settings, fleet),
        store,
        statistics,
        RouterMetrics(observability, statistics),
        controller,
        Outcomes(judge),
    )
    introspection = Introspection(
        controller,
        lambda tier: fleet.pools[tier].available,
        lambda: reports_to_proto(judge.status()),
    )
    guard = TenantGuard(settings.tenancy, os.environ, methods=AUTHENTICATED, counted=COUNTED)
    servicer = RouterServicer(plane, routing, introspection, guard)

    def register(server: grpc.aio.Server) -> None:
        router_pb2_grpc.add_RouterServiceServicer_to_server(servicer, server)

    return App(
        "router",
        settings.services.router,
        settings,
        register=register,
        grpc_services=["weir.v1.RouterService"],
        components=[guard, controller, planner, store, *fleet.pools.values()],
        healthy=lambda: fleet.healthy,
        guards=[guard],
    )


def _loader(routing: Routing, state: Path) -> LoadClassifier:
    """Return what loads an artifact as configured; TensorRT keeps its engines beside the state."""
    runtime = routing.runtime
    chosen = available(runtime.execution_providers, state / "tensorrt")
    return lambda folder: Classifier.load(folder, runtime.threads, chosen)


def _domains(routing: Routing) -> list[str] | None:
    """Return what the classifier can name, where a rule names a domain."""
    if not any(rule.when.domains for rule in routing.rules):
        return None
    return artifact.read_metadata(routing.classifier or artifact.PACKAGED).domains
