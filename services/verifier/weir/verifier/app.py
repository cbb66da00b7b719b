"""The verifier as one App: engine, upstreams, checker, servicer."""

from __future__ import annotations

from typing import cast

import grpc

from weir.common.app import App
from weir.common.config import Settings
from weir.engines.base import SessionEngine
from weir.engines.registry import create_engine
from weir.models.store import ModelStore
from weir.v1 import frontier_proxy_pb2_grpc, slm_worker_pb2_grpc, verifier_pb2, verifier_pb2_grpc
from weir.verifier.assessment import Assessor
from weir.verifier.checking.checker import Checker
from weir.verifier.frontier import Frontier
from weir.verifier.generate import Generator
from weir.verifier.health import EngineWatch
from weir.verifier.servicer import VerifierServicer
from weir.verifier.upstream import Upstream


def build(settings: Settings) -> App:
    """Put the service together; nothing runs until it is started."""
    tier, service = settings.tiers.hybrid, settings.services.verifier
    store = ModelStore(settings.models)
    engine = cast(  # the watch refuses to start with an engine of another kind
        "SessionEngine",
        create_engine(tier.verifier_model, tier.run, store, max_context=tier.max_context, sessions_only=True),
    )
    workers = Upstream(service.slm_worker, slm_worker_pb2_grpc.SlmWorkerServiceStub)
    proxies = Upstream(service.frontier_proxy, frontier_proxy_pb2_grpc.FrontierProxyServiceStub)
    checker, watch = Checker(), EngineWatch(engine)
    generator = Generator(engine, tier, workers, Frontier(proxies), checker)
    servicer = VerifierServicer(settings, engine, generator, Assessor(settings, engine, checker))

    def register(server: grpc.aio.Server) -> None:
        verifier_pb2_grpc.add_VerifierServiceServicer_to_server(servicer, server)

    return App(
        "verifier",
        service,
        settings,
        register=register,
        grpc_services=[verifier_pb2.DESCRIPTOR.services_by_name["VerifierService"].full_name],
        components=[checker, engine, watch, workers, proxies],
        healthy=lambda: watch.ready,
    )
