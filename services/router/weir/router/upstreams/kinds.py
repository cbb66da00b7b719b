"""What can be asked of a replica of each service: its description and its load."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import grpc

from weir.router.upstreams.balancing import ReplicaLoad
from weir.router.upstreams.replica import Kind
from weir.v1 import frontier_proxy_pb2, frontier_proxy_pb2_grpc, slm_worker_pb2, slm_worker_pb2_grpc

TIMEOUT_S = 2.0


async def _model_info(channel: grpc.aio.Channel) -> slm_worker_pb2.GetModelInfoResponse:
    stub = slm_worker_pb2_grpc.SlmWorkerServiceStub(channel)
    return await stub.GetModelInfo(slm_worker_pb2.GetModelInfoRequest(), timeout=TIMEOUT_S)


async def _models(channel: grpc.aio.Channel) -> frontier_proxy_pb2.ListModelsResponse:
    stub = frontier_proxy_pb2_grpc.FrontierProxyServiceStub(channel)
    return await stub.ListModels(frontier_proxy_pb2.ListModelsRequest(), timeout=TIMEOUT_S)


async def _load(channel: grpc.aio.Channel, name: str) -> AsyncGenerator[ReplicaLoad]:
    call = slm_worker_pb2_grpc.SlmWorkerServiceStub(channel).WatchLoad(slm_worker_pb2.WatchLoadRequest())
    try:
        async for report in call:
            yield ReplicaLoad(
                name,
                running=report.running,
                waiting=report.waiting,
                capacity=report.capacity,
                kv_cache_used=report.kv_cache_used,
            )
    finally:
        call.cancel()


SLM_WORKER = Kind("weir.v1.SlmWorkerService", _model_info, _load)
VERIFIER = Kind("weir.v1.VerifierService")
FRONTIER_PROXY = Kind("weir.v1.FrontierProxyService", _models)
