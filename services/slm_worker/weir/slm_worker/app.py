"""Puts the service together from the settings."""

from __future__ import annotations

from weir.common.app import App
from weir.common.config import Settings
from weir.engines.base import Health
from weir.engines.registry import create_engine
from weir.models.store import ModelStore
from weir.slm_worker.admission import Admission
from weir.slm_worker.load import LoadBoard
from weir.slm_worker.servicer import SlmWorkerServicer
from weir.slm_worker.sessions import SessionWarmup
from weir.v1 import slm_worker_pb2_grpc


def build(settings: Settings) -> App:
    """Return the worker, not yet started."""
    tier = settings.tiers.slm
    engine = create_engine(
        tier.model_id,
        tier.run,
        ModelStore(settings.models),
        max_context=tier.max_context,
        quantization=tier.quantization,
    )
    admission = Admission(tier.run.max_running, tier.run.max_waiting)
    board = LoadBoard(engine, admission)
    servicer = SlmWorkerServicer(engine, admission, board, tier)
    warm = tier.speculative_draft and tier.drafting.method != "lookup"
    return App(
        "slm_worker",
        settings.services.slm_worker,
        settings,
        register=lambda server: slm_worker_pb2_grpc.add_SlmWorkerServiceServicer_to_server(servicer, server),
        grpc_services=["weir.v1.SlmWorkerService"],
        components=[engine, board, SessionWarmup(engine, wanted=warm)],
        healthy=lambda: board.health is Health.READY,
    )
