"""compose.yaml without a container engine: every name, path and port in it, and its commands started."""

from __future__ import annotations

import asyncio
import fnmatch
import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import yaml

from tests.packaging.compose_file import (
    OURS,
    ROOT,
    compose,
    dockerfile,
    environment,
    module,
    stages,
    substituted,
)
from weir.common.config import Settings, load_settings
from weir.common.probe import is_serving

SERVICES = compose()["services"]


def settings_in(service: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Read the settings as the container would, misspelled names refused."""
    variables = {name: value for name, value in environment(service).items() if name.startswith("WEIR_")}
    for name in [one for one in os.environ if one.startswith("WEIR_")]:
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return load_settings(environ=variables)


def section(service: str) -> str:
    """Name of a service's section in the settings."""
    return module(service).removeprefix("weir.")


# What is written


@pytest.mark.parametrize("service", OURS)
def test_the_command_runs_a_module_that_exists(service: str) -> None:
    assert importlib.util.find_spec(module(service) + ".__main__") is not None


def test_the_models_are_pulled_by_a_command_that_exists() -> None:
    command = SERVICES["models"]["command"]
    run = [sys.executable, "-m", "weir.cli.main", *command[1:], "--help"]
    shown = subprocess.run(run, capture_output=True, text=True, check=False)
    assert command[0] == "weir"
    assert shown.returncode == 0, shown.stderr


@pytest.mark.parametrize("service", [*OURS, "models"])
def test_every_variable_is_a_setting(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_in(service, monkeypatch)
    if service != "models":
        assert getattr(settings.services, section(service)).host == "0.0.0.0"  # noqa: S104


@pytest.mark.parametrize("service", OURS)
def test_the_health_check_asks_the_port_that_is_served(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    port = getattr(settings_in(service, monkeypatch).services, section(service)).port
    probe = ["CMD", "python", "-m", "weir.common.probe", f"127.0.0.1:{port}"]
    assert SERVICES[service]["healthcheck"]["test"] == probe
    assert any(f"EXPOSE {port}" in line or f" {port}" in line for line in dockerfile() if "EXPOSE" in line)


@pytest.mark.parametrize("service", OURS)
def test_upstreams_are_services_on_a_network_in_common(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_in(service, monkeypatch)
    for name, value in environment(service).items():
        for host, port in re.findall(r"dns:///([\w-]+):(\d+)", value):
            assert set(SERVICES[host]["networks"]) & set(SERVICES[service]["networks"]), name
            assert int(port) == getattr(settings.services, section(host)).port, name


def test_a_service_that_is_waited_for_has_a_health_check() -> None:
    for name, service in SERVICES.items():
        for other, condition in service.get("depends_on", {}).items():
            healthy = condition["condition"] == "service_healthy"
            assert other in SERVICES, name
            assert not healthy or "healthcheck" in SERVICES[other], name


def test_ports_are_published_on_the_loopback_only() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_local_models_have_no_way_out() -> None:
    assert compose()["networks"]["inner"]["internal"] is True
    for service in ("slm-worker", "slm-worker-gpu", "verifier"):
        assert SERVICES[service]["networks"] == ["inner"]


@pytest.mark.parametrize("service", [*OURS, "models"])
def test_our_containers_are_locked_down(service: str) -> None:
    written = SERVICES[service]
    assert written["read_only"] is True
    assert written["cap_drop"] == ["ALL"]
    assert written["security_opt"] == ["no-new-privileges:true"]
    assert {"cpus", "memory"} <= set(written["deploy"]["resources"]["limits"])


def test_images_are_pinned() -> None:
    bases = re.findall(r"^ARG \w+_IMAGE=(\S+)", "\n".join(dockerfile()), flags=re.MULTILINE)
    images = [*bases, *(service["image"] for service in SERVICES.values())]
    assert all(re.search(r":v?\d+\.\d+", image) for image in images), images


def test_mounted_files_exist_and_volumes_are_declared() -> None:
    for name, service in SERVICES.items():
        for mount in service.get("volumes", []):
            source, target, *_ = substituted(mount).split(":")
            if source.startswith("./deploy/"):
                assert (ROOT / source).is_file(), name
            elif not source.startswith("./"):
                assert source in compose()["volumes"], name
            assert target.startswith("/"), name


@pytest.mark.parametrize("service", [*OURS, "models"])
def test_what_is_written_to_is_mounted(service: str) -> None:
    targets = {mount.split(":")[1] for mount in map(substituted, SERVICES[service]["volumes"])}
    needed: dict[str, set[str]] = {
        "router": {"/var/lib/weir/state"},
        "frontier-proxy": {"/var/lib/weir/state"},
        "slm-worker": {"/var/lib/weir/models"},
        "verifier": {"/var/lib/weir/models"},
        "models": {"/var/lib/weir/models"},
        "slm-worker-gpu": {environment(service).get("WEIR_TIERS__SLM__RUN__PATH", "")},
    }
    assert needed[service] <= targets


def test_the_gpu_profile_reserves_a_device() -> None:
    worker = SERVICES["slm-worker-gpu"]
    (device,) = worker["deploy"]["resources"]["reservations"]["devices"]
    assert worker["profiles"] == ["gpu"]
    assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])


def test_no_secret_is_written() -> None:
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            assert value is None or not name.endswith(("KEY", "TOKEN", "PASSWORD")), name


def test_targets_are_built_by_the_dockerfile_as_another_user() -> None:
    for service in SERVICES.values():
        if build := service.get("build"):
            assert (ROOT / build["context"] / build["dockerfile"]).is_file()
            users = [line for line in stages()[build["target"]] if line.startswith("USER")]
            assert users[-1] == "USER 10001:10001"


def test_what_the_dockerfile_copies_reaches_it() -> None:
    kept = [
        line.removeprefix("!")
        for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
        if line.startswith("!")
    ]
    copies = [line.split()[1:-1] for line in dockerfile() if line.startswith("COPY") and "--from" not in line]
    for source in [one for copy in copies for one in copy]:
        assert (ROOT / source).exists(), source
        assert any(fnmatch.fnmatch(source, pattern) for pattern in kept), source


def test_stages_copy_from_stages() -> None:
    for lines in stages().values():
        for source in re.findall(r"--from=(\S+)", "\n".join(lines)):
            assert source in stages()


def test_prometheus_scrapes_our_services_where_they_serve_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    written = yaml.safe_load((ROOT / "deploy/observability/prometheus.yaml").read_text(encoding="utf-8"))
    (job,) = written["scrape_configs"]
    (targets,) = job["static_configs"]
    port = settings_in("router", monkeypatch).observability.metrics_port
    assert sorted(targets["targets"]) == sorted(f"{service}:{port}" for service in OURS)


def test_the_collector_listens_where_the_services_send(monkeypatch: pytest.MonkeyPatch) -> None:
    written = yaml.safe_load((ROOT / "deploy/observability/otel-collector.yaml").read_text(encoding="utf-8"))
    port = written["receivers"]["otlp"]["protocols"]["grpc"]["endpoint"].split(":")[1]
    assert environment("router")["OTEL_EXPORTER_OTLP_ENDPOINT"] == f"http://otel-collector:{port}"
    host = written["exporters"]["otlp/jaeger"]["endpoint"].split(":")[0]
    assert set(SERVICES[host]["networks"]) & set(SERVICES["otel-collector"]["networks"])


@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / "deploy" / "ghz").glob("*.json")))
def test_a_load_test_calls_a_method_with_fields_that_exist(name: str) -> None:
    from google.protobuf import json_format, symbol_database

    from weir.v1 import router_pb2

    written = json.loads((ROOT / "deploy" / "ghz" / name).read_text(encoding="utf-8"))
    service, method = written["call"].rsplit(".", 1)
    found = router_pb2.DESCRIPTOR.services_by_name[service.rsplit(".", 1)[1]].methods_by_name[method]
    assert (ROOT / written["proto"]).is_file()
    message = symbol_database.Default().GetSymbol(found.input_type.full_name)
    json_format.ParseDict(written["data"], message())


# What runs


class Stack:
    """The containers' commands as processes on free ports."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self.ports = {module(service): _free_port() for service in OURS}
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, service: str) -> None:
        """Start a service with its container's command and environment; only places differ."""
        command = [sys.executable, *SERVICES[service]["command"][1:]]
        self._running[service] = subprocess.Popen(command, env=self._environment(service))

    def wait(self, service: str, seconds: float) -> None:
        """Wait until the service answers, then run the container's health check."""
        deadline = time.monotonic() + seconds
        target = f"127.0.0.1:{self.ports[module(service)]}"
        while not asyncio.run(is_serving(target)):
            ended = self._running[service].poll()
            assert ended is None, f"{service} ended with {ended}"
            assert time.monotonic() < deadline, f"{service} is not healthy after {seconds} s"
            time.sleep(0.2)  # another process opens the port: there is nothing to wait on
        assert self.probe(service) == 0

    def probe(self, service: str) -> int:
        """Exit status of the container's health check."""
        check = SERVICES[service]["healthcheck"]["test"][2:-1]
        target = f"127.0.0.1:{self.ports[module(service)]}"
        return subprocess.run([sys.executable, *check, target], check=False).returncode

    def stop(self, service: str) -> int:
        """Send what a container engine sends, and return the exit status."""
        process = self._running.pop(service)
        process.send_signal(signal.SIGTERM)
        try:
            return process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()

    def close(self) -> None:
        for service in list(self._running):
            self.stop(service)

    def _environment(self, service: str) -> Mapping[str, str]:
        name = section(service).upper()
        inherited = {
            key: value for key, value in os.environ.items() if not key.startswith(("WEIR_", "OTEL_"))
        }
        written = {key: self._local(value) for key, value in environment(service).items()}
        del written["WEIR_MODELS__DIRECTORY"]
        places = {
            f"WEIR_SERVICES__{name}__PORT": str(self.ports[module(service)]),
            f"WEIR_SERVICES__{name}__DRAIN_DELAY_S": "0",
            "WEIR_OBSERVABILITY__METRICS_PORT": "0",
            "WEIR_STATE__DIRECTORY": str(self._state / service),
        }
        return inherited | written | places

    def _local(self, value: str) -> str:
        return re.sub(
            r"dns:///([\w-]+):\d+", lambda found: f"127.0.0.1:{self.ports[module(found[1])]}", value
        )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    made = Stack(tmp_path)
    yield made
    made.close()


def test_the_health_check_fails_where_nothing_serves(stack: Stack) -> None:
    assert stack.probe("router") == 1


def test_the_frontier_proxy_starts_without_a_key_and_ends_on_sigterm(stack: Stack) -> None:
    stack.start("frontier-proxy")
    stack.wait("frontier-proxy", 30)
    assert stack.stop("frontier-proxy") == 0


def test_the_four_services_start_in_their_order(stack: Stack, embedded_model: Path) -> None:
    assert embedded_model.is_file()
    waited = SERVICES["router"]["depends_on"]
    for service in waited:
        stack.start(service)
    for service in waited:
        stack.wait(service, 120)
    stack.start("router")
    stack.wait("router", 60)
    for service in ("router", *waited):
        assert stack.stop(service) == 0
