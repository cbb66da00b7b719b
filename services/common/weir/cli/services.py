"""The four services as child processes: commands, environment, and what tells that they serve."""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Mapping

from weir.cli.child import ChildSpec
from weir.cli.health import wait_serving
from weir.cli.ports import SERVICES, Endpoint
from weir.common.config import Settings
from weir.common.config.model import Services

GRPC_NAMES = {
    "router": "weir.v1.RouterService",
    "slm_worker": "weir.v1.SlmWorkerService",
    "verifier": "weir.v1.VerifierService",
    "frontier_proxy": "weir.v1.FrontierProxyService",
}
# Which setting of a service names which other service.
_UPSTREAMS = {
    ("router", "slm_worker"): "slm_worker",
    ("router", "verifier"): "verifier",
    ("router", "frontier_proxy"): "frontier_proxy",
    ("verifier", "slm_worker"): "slm_worker",
    ("verifier", "frontier_proxy"): "frontier_proxy",
    ("frontier_proxy", "stand_in_worker"): "slm_worker",
}


def child_specs(settings: Settings, endpoints: Mapping[str, Endpoint], otlp_endpoint: str) -> list[ChildSpec]:
    """Return the services in the order of stopping."""
    shared = {
        **os.environ,
        **_ports(endpoints),
        **_upstreams(settings, endpoints),
        **_telemetry(otlp_endpoint),
    }
    return [
        ChildSpec(
            name,
            (sys.executable, "-m", "weir.cli.guarded", f"weir.{name}"),
            functools.partial(wait_serving, endpoints[name].target, GRPC_NAMES[name]),
            {**shared, **_metrics(settings, index)},
        )
        for index, name in enumerate(SERVICES)
    ]


def traces_go_elsewhere() -> bool:
    """Whether the user's environment sends traces to a collector of their own."""
    return any(f"OTEL_EXPORTER_OTLP{part}_ENDPOINT" in os.environ for part in ("", "_TRACES"))


def _ports(endpoints: Mapping[str, Endpoint]) -> dict[str, str]:
    return {endpoints[name].variable: str(endpoints[name].port) for name in SERVICES}


def _upstreams(settings: Settings, endpoints: Mapping[str, Endpoint]) -> dict[str, str]:
    """Point the services at each other, save where the user has said where the others are."""
    variables: dict[str, str] = {}
    defaults = Services()
    for (name, field), upstream in _UPSTREAMS.items():
        if getattr(getattr(settings.services, name), field) == getattr(getattr(defaults, name), field):
            variable = f"WEIR_SERVICES__{name.upper()}__{field.upper()}"
            variables[variable] = json.dumps([endpoints[upstream].target])
    return variables


def _telemetry(otlp_endpoint: str) -> dict[str, str]:
    shown_here = {
        # The supervisor renders the records of all four.
        "WEIR_OBSERVABILITY__LOG_FORMAT": "json",
        "PYTHONUNBUFFERED": "1",
    }
    if traces_go_elsewhere():
        return shown_here
    metrics = os.environ.get("OTEL_METRICS_EXPORTER", "none")
    return {**shown_here, "OTEL_EXPORTER_OTLP_ENDPOINT": otlp_endpoint, "OTEL_METRICS_EXPORTER": metrics}


def _metrics(settings: Settings, index: int) -> dict[str, str]:
    """Four processes on one machine cannot share a port: free ones, or count up from the one configured."""
    port = settings.observability.metrics_port
    return {"WEIR_OBSERVABILITY__METRICS_PORT": str(port + index if port else 0)}
