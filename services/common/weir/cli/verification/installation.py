"""Real services in processes of their own, around one pair of models, for as long as a measurement lasts."""

from __future__ import annotations

import functools
import json
import os
import socket
import sys
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from weir.cli.child import Child, ChildSpec
from weir.cli.health import wait_serving
from weir.cli.services import GRPC_NAMES
from weir.cli.supervisor import GivenUp, Supervisor
from weir.common.errors import ErrorCode, WeirError

Settings = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Part:
    """A service to run: its module's name, and its settings but for the ports."""

    service: str
    settings: Settings


@dataclass(frozen=True, slots=True)
class Running:
    """A service that runs. ``target`` is its address, ``metrics`` that of its metrics."""

    target: str
    metrics: str
    pid: int


def worker(model: Path, *, method: str = "model", sessions: int = 16) -> Part:
    """Return a worker with ``model``, which drafts by ``method``."""
    tier = {"model_id": model.stem, "drafting": {"method": method}, "run": _run(model, sessions)}
    return Part("slm_worker", {"tiers": {"slm": tier}})


def verifier(model: Path, *, sessions: int = 16, tier: Mapping[str, Any] = MappingProxyType({})) -> Part:
    """Return a verifier with ``model``; ``tier`` are settings of the hybrid tier."""
    settings = {"verifier_model": model.stem, "run": _run(model, sessions), **tier}
    return Part("verifier", {"tiers": {"hybrid": settings}})


def _run(model: Path, sessions: int) -> Settings:
    return {"path": str(model.absolute()), "max_sessions": sessions}


@asynccontextmanager
async def installed(
    parts: Mapping[str, Part], drafters: Mapping[str, str]
) -> AsyncIterator[dict[str, Running]]:
    """Start the services by their names and yield once all serve; leaving the block ends them.

    Args:
        parts: what to run; callers before those that they call, which is the order of stopping.
        drafters: for a verifier's name, that of the worker that drafts for it; others verify alone.

    Raises:
        WeirError: MODEL_UNAVAILABLE where a service does not come up, with its last words.
    """
    ports = _free_ports(2 * len(parts))
    places = {name: (ports[2 * i], ports[2 * i + 1]) for i, name in enumerate(parts)}
    words: deque[str] = deque(maxlen=20)
    with tempfile.TemporaryDirectory() as folder:
        specs = [_spec(name, part, places, drafters.get(name), Path(folder)) for name, part in parts.items()]
        supervisor = Supervisor(specs, on_line=lambda name, line: words.append(f"{name}: {line}"), grace_s=20)
        supervisor.start()
        try:
            await supervisor.serving()
            children = zip(parts, supervisor.children, strict=True)
            yield {name: _running(places[name], child) for name, child in children}
        except GivenUp as error:
            hint = f"The {error.child.spec.name} {error.child.reason}:\n" + "\n".join(words)
            raise WeirError(ErrorCode.MODEL_UNAVAILABLE, hint) from None
        finally:
            await supervisor.stop()


def _spec(
    name: str, part: Part, places: Mapping[str, tuple[int, int]], drafter: str | None, folder: Path
) -> ChildSpec:
    port, metrics = places[name]
    service: Settings = {"port": port, "drain_delay_s": 0, "drain_grace_s": 2}
    if part.service == "verifier":
        service["frontier_proxy"] = []
        service["slm_worker"] = [f"127.0.0.1:{places[drafter][0]}"] if drafter else []
    settings = {
        **part.settings,
        "services": {part.service: service},
        "observability": {"metrics_port": metrics, "log_level": "warning"},
        "state": {"directory": str(folder)},
    }
    config = folder / f"{name}.json"
    config.write_text(json.dumps(settings), encoding="utf-8")
    # What the user has configured is for the user's own installation.
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("WEIR_", "OTEL_"))}
    return ChildSpec(
        name,
        (sys.executable, "-m", "weir.cli.guarded", f"weir.{part.service}"),
        functools.partial(wait_serving, f"127.0.0.1:{port}", GRPC_NAMES[part.service]),
        {**kept, "WEIR_CONFIG": str(config)},
    )


def _running(ports: tuple[int, int], child: Child) -> Running:
    target, metrics = (f"127.0.0.1:{port}" for port in ports)
    return Running(target, metrics, child.pid or 0)


def _free_ports(count: int) -> Sequence[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [each.getsockname()[1] for each in held]
    finally:
        for each in held:
            each.close()
