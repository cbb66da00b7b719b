"""Supervision, with real processes: restarts, giving up, the order of stopping, and no orphans."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from weir.cli.child import Child, ChildSpec, ChildState, RestartPolicy
from weir.cli.log_lines import format_line, is_loud, is_routine
from weir.cli.ports import plan_endpoints
from weir.cli.services import child_specs
from weir.cli.supervisor import GivenUp, Supervisor
from weir.common.config import ConfigError, Settings
from weir.common.config.model import RouterService, Services

QUICK = RestartPolicy(quick_s=60, max_quick=3, first_pause_s=0.01, longest_pause_s=0.02)
# Says that it lives, and ends as asked.
SERVER = """
import signal, sys, threading
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
print("alive", flush=True)
threading.Event().wait()
"""
STUBBORN = SERVER.replace("lambda *_: sys.exit(0)", "signal.SIG_IGN")


class Watch:
    """Collects lines and changes of state, and lets a test wait for them."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []
        self.states: list[tuple[str, ChildState, str]] = []
        self._changed = asyncio.Event()

    def line(self, name: str, text: str) -> None:
        self.lines.append((name, text))
        self._wake()

    def state(self, child: Child, text: str) -> None:
        self.states.append((child.spec.name, child.state, text))
        self._wake()

    def _wake(self) -> None:
        waiting, self._changed = self._changed, asyncio.Event()
        waiting.set()

    async def until(self, reached: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not reached():
                await self._changed.wait()

    def alive(self, name: str) -> int:
        return self.lines.count((name, "alive"))


def spec(watch: Watch, name: str, code: str, *, serves: bool = True) -> ChildSpec:
    """A Python program that serves once it has said so."""

    async def ready() -> None:
        before = watch.alive(name)
        await watch.until(lambda: serves and watch.alive(name) > before)

    return ChildSpec(name, (sys.executable, "-c", code), ready)


@asynccontextmanager
async def supervised(
    watch: Watch, specs: Sequence[ChildSpec], grace_s: float = 10
) -> AsyncIterator[Supervisor]:
    supervisor = Supervisor(specs, on_line=watch.line, on_state=watch.state, policy=QUICK, grace_s=grace_s)
    supervisor.start()
    try:
        async with asyncio.timeout(30):
            yield supervisor
    finally:
        await supervisor.stop()


@pytest.fixture
async def watch() -> Watch:
    return Watch()


async def test_children_are_stopped_in_the_order_given(watch: Watch) -> None:
    specs = [spec(watch, name, SERVER) for name in ("router", "verifier", "slm_worker")]
    async with supervised(watch, specs) as supervisor:
        await supervisor.serving()
    stopped = [name for name, state, _ in watch.states if state is ChildState.STOPPED]
    assert stopped == ["router", "verifier", "slm_worker"]


async def test_a_child_that_dies_is_restarted(watch: Watch) -> None:
    async with supervised(watch, [spec(watch, "router", SERVER)]) as supervisor:
        await supervisor.serving()
        (child,) = supervisor.children
        first = child.pid
        assert first
        os.kill(first, signal.SIGKILL)
        await watch.until(lambda: ("router", ChildState.SERVING, "serving again") in watch.states)
        assert child.pid != first
    assert ("router", ChildState.RESTARTING, "was ended by SIGKILL; restarting in 0.01 s") in watch.states


async def test_a_child_that_dies_quickly_time_after_time_is_given_up(watch: Watch, tmp_path: Path) -> None:
    # It ends once the supervisor has seen it serve, which the test says by a file.
    code = f"""
import pathlib, time
print("alive", flush=True)
while not pathlib.Path({str(tmp_path / "seen")!r}).exists(): time.sleep(0.01)
raise SystemExit(3)
"""
    async with supervised(watch, [spec(watch, "router", code)]) as supervisor:
        await supervisor.serving()
        (tmp_path / "seen").touch()
        with pytest.raises(GivenUp) as caught:
            await supervisor.failure()
    assert caught.value.child.reason.startswith("ended with exit code 3 3 times in a row")
    assert watch.alive("router") == QUICK.max_quick


async def test_a_child_that_never_served_is_not_restarted(watch: Watch) -> None:
    code = "import sys; print('weir: no model', flush=True); sys.exit(1)"
    async with supervised(watch, [spec(watch, "slm_worker", code, serves=False)]) as supervisor:
        with pytest.raises(GivenUp, match="slm_worker"):
            await supervisor.serving()
    assert watch.lines == [("slm_worker", "weir: no model")]


async def test_a_child_that_ignores_the_request_is_ended_after_its_grace(watch: Watch) -> None:
    async with supervised(watch, [spec(watch, "router", STUBBORN)], grace_s=0.2) as supervisor:
        await supervisor.serving()
        pid = supervisor.children[0].pid
    assert pid
    assert not psutil.pid_exists(pid)


async def test_a_cancelled_stop_leaves_nothing_running(watch: Watch) -> None:
    specs = [spec(watch, name, STUBBORN) for name in ("router", "slm_worker")]
    async with supervised(watch, specs, grace_s=60) as supervisor:
        await supervisor.serving()
        pids = [child.pid for child in supervisor.children]
        stopping = asyncio.create_task(supervisor.stop())
        await asyncio.wait([stopping], timeout=0.05)
        stopping.cancel()
        await asyncio.wait([stopping])
        assert not any(psutil.pid_exists(pid) for pid in pids if pid)


async def test_what_a_child_started_ends_with_it(watch: Watch) -> None:
    code = f"""
import subprocess, sys
grandchild = subprocess.Popen([sys.executable, "-c", {STUBBORN.replace("alive", "grand")!r}])
print(grandchild.pid, flush=True)
{SERVER}"""
    async with supervised(watch, [spec(watch, "slm_worker", code)]) as supervisor:
        await supervisor.serving()
        await watch.until(lambda: ("slm_worker", "grand") in watch.lines)
        pid = int(next(text for _, text in watch.lines if text.isdigit()))
        process = psutil.Process(pid)
    gone, _ = await asyncio.to_thread(psutil.wait_procs, [process], timeout=5)
    assert gone


async def test_children_end_when_their_supervisor_is_killed(tmp_path: Path) -> None:
    module = tmp_path / "served_here.py"
    module.write_text(SERVER)
    code = f"""
import os, subprocess, sys
env = {{**os.environ, "PYTHONPATH": {str(tmp_path)!r}}}
child = subprocess.Popen([sys.executable, "-m", "weir.cli.guarded", "served_here"], env=env,
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
child.stdout.readline()
print(child.pid, flush=True)
child.wait()
"""
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    assert parent.stdout
    child = psutil.Process(int(await parent.stdout.readline()))
    parent.kill()
    await parent.wait()
    gone, _ = await asyncio.to_thread(psutil.wait_procs, [child], timeout=10)
    assert gone


async def test_long_lines_and_odd_bytes_pass(watch: Watch) -> None:
    code = (
        "import sys; sys.stdout.buffer.write(b'x' * 200_000 + b'\\n\\xff\\n'); print('alive', flush=True)\n"
    )
    async with supervised(watch, [spec(watch, "router", code + SERVER)]) as supervisor:
        await supervisor.serving()
    assert max(len(text) for _, text in watch.lines) <= 16_384
    assert ("router", "\ufffd") in watch.lines


def free_settings(**services: object) -> Settings:
    ports = {name: {"port": 0} for name in ("router", "slm_worker", "verifier", "frontier_proxy")}
    return Settings.model_validate(
        {"services": {**ports, **services}, "viewer": {"http_port": 0, "otlp_port": 0}}
    )


def test_a_port_in_use_is_named_with_the_variable_that_changes_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError) as caught:
            plan_endpoints(free_settings(verifier={"port": port}))
    message = str(caught.value)
    assert f"Port {port}, wanted for the verifier, is in use" in message
    assert "WEIR_SERVICES__VERIFIER__PORT" in message


def test_a_port_given_twice_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with pytest.raises(ConfigError, match=f"Port {port} is given to both the router and the verifier"):
        plan_endpoints(free_settings(router={"port": port}, verifier={"port": port}))


def test_free_ports_are_all_different() -> None:
    ports = [endpoint.port for endpoint in plan_endpoints(free_settings()).values()]
    assert len(set(ports)) == 6
    assert 0 not in ports


def test_children_find_each_other_on_their_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    endpoints = plan_endpoints(free_settings())
    specs = child_specs(free_settings(), endpoints, "http://127.0.0.1:9")
    assert [child.name for child in specs] == ["router", "verifier", "slm_worker", "frontier_proxy"]
    env = specs[0].env
    assert env["WEIR_SERVICES__ROUTER__SLM_WORKER"] == f'["{endpoints["slm_worker"].target}"]'
    assert env["WEIR_SERVICES__ROUTER__PORT"] == str(endpoints["router"].port)
    assert env["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://127.0.0.1:9"


def test_upstreams_of_the_users_own_are_left_alone() -> None:
    settings = Settings(services=Services(router=RouterService(slm_worker=["gpu-box:50052"])))
    endpoints = plan_endpoints(free_settings())
    env = child_specs(settings, endpoints, "http://127.0.0.1:9")[0].env
    assert "WEIR_SERVICES__ROUTER__SLM_WORKER" not in env


def test_a_collector_of_the_users_own_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317")
    specs = child_specs(free_settings(), plan_endpoints(free_settings()), "http://127.0.0.1:9")
    assert specs[0].env["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://collector:4317"


def test_a_metrics_port_is_not_shared() -> None:
    settings = Settings.model_validate({"observability": {"metrics_port": 9100}})
    specs = child_specs(settings, plan_endpoints(free_settings()), "http://127.0.0.1:9")
    ports = [child.env["WEIR_OBSERVABILITY__METRICS_PORT"] for child in specs]
    assert ports == ["9100", "9101", "9102", "9103"]


def test_a_log_record_becomes_a_readable_line() -> None:
    record = (
        '{"event": "rpc", "level": "info", "timestamp": "2026-01-02T03:04:05Z", "seconds": 0.5, "x": null}'
    )
    assert format_line("router", record).plain == "router         03:04:05 rpc seconds=0.5"
    assert not is_loud(record)


def test_only_the_services_questions_to_each_other_are_routine() -> None:
    record = '{"event": "rpc", "level": "info", "status": "%s", "method": "weir.v1.SlmWorkerService/%s"}'
    assert is_routine(record % ("OK", "GetModelInfo"))
    assert not is_routine(record % ("UNAVAILABLE", "GetModelInfo"))
    assert not is_routine(record % ("OK", "Complete"))


def test_a_log_line_cannot_steer_the_terminal() -> None:
    line = "evil \x1b]0;title\x07 \x1b[2J"
    assert "\x1b" not in format_line("router", line).plain
    assert is_loud(line)
