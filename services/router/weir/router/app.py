"""Puts the router together."""

from __future__ import annotations

import grpc

from weir.common.app import App
from weir.common.config import Settings
from weir.common.state import state_directory
from weir.router.adjustment import ThresholdController
from weir.router.classifier import Classifier
from weir.router.decisions import DecisionStore
from weir.router.fleet import Fleet
from weir.router.generate import DataPlane
from weir.router.jobs import JobFactory
from weir.router.metrics import RouterMetrics
from weir.router.planner import LoadClassifier, Planner
from weir.router.servicer import RouterServicer
from weir.router.statistics import Statistics
from weir.v1 import router_pb2_grpc


def build(settings: Settings, load_classifier: LoadClassifier = Classifier.load) -> App:
    """Return the router, not yet started; it is healthy while any tier can be reached."""
    routing, observability = settings.routing, settings.observability
    statistics = Statistics(routing.dynamic_adjustment.window_seconds)
    controller = ThresholdController(
        routing.complexity_threshold, routing.dynamic_adjustment, observability.alerting, statistics
    )
    fleet = Fleet(settings, statistics)
    planner = Planner(settings, fleet, controller, load_classifier)
    store = DecisionStore(state_directory(settings.state) / "decisions.sqlite3")
    plane = DataPlane(
        planner,
        fleet,
        JobFactory(settings, fleet),
        store,
        statistics,
        RouterMetrics(observability, statistics),
        controller,
    )
    servicer = RouterServicer(plane, store, routing)

    def register(server: grpc.aio.Server) -> None:
        router_pb2_grpc.add_RouterServiceServicer_to_server(servicer, server)

    return App(
        "router",
        settings.services.router,
        settings,
        register=register,
        grpc_services=["weir.v1.RouterService"],
        components=[planner, store, *fleet.pools.values()],
        healthy=lambda: fleet.healthy,
    )
