"""The entry point that every service shares."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path

import structlog

from weir.common.app import App
from weir.common.config import ConfigError, Settings, load_settings
from weir.common.errors import WeirError
from weir.common.errors.catalog import CATALOG
from weir.common.logs import configure_logs
from weir.common.telemetry import Telemetry

log = structlog.get_logger(__name__)


def main(build: Callable[[Settings], App]) -> None:
    """Load the settings, run the service until it is told to stop, and exit 0; 2 where it cannot run."""
    try:
        settings = load_settings(Path(path) if (path := os.environ.get("WEIR_CONFIG")) else None, os.environ)
        _run(build, settings)
    except (ConfigError, WeirError) as error:
        sys.exit(_explain(error))


def _run(build: Callable[[Settings], App], settings: Settings) -> None:
    name = build.__module__.split(".")[1]
    configure_logs(name, settings.observability)
    service = getattr(settings.services, name)
    telemetry = Telemetry(name, metrics_host=service.host, metrics_port=settings.observability.metrics_port)
    if telemetry.metrics_port is not None:
        log.info("metrics_served", address=f"http://{service.host}:{telemetry.metrics_port}/metrics")
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(build(settings).serve())
    finally:
        telemetry.close()


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if sys.platform == "win32":
        return None
    import uvloop

    return uvloop.new_event_loop


def _explain(error: ConfigError | WeirError) -> str:
    if isinstance(error, WeirError):
        return f"weir: {error.hint} {CATALOG[error.code].message}".replace("  ", " ")
    return f"weir: {error}"
