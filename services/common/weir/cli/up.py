"""`weir up`: the four services and the trace page on this machine, with one command."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from weir.cli.credentials import credentials
from weir.cli.ports import SERVICES, Endpoint, plan_endpoints
from weir.cli.proof import prove
from weir.cli.services import child_specs
from weir.cli.supervisor import GivenUp, Supervisor
from weir.cli.up_display import Display
from weir.common.config import ConfigError, Settings, load_settings
from weir.common.state import state_directory
from weir.spending.source import SpendSource, untraced
from weir.viewer.app import Viewer

up_app = typer.Typer(add_completion=False)


@up_app.command()
def up(
    config: Annotated[
        Path | None, typer.Option("--config", envvar="WEIR_CONFIG", help="Configuration file (YAML).")
    ] = None,
) -> None:
    """Start the four services and the trace page, prove that they answer, and keep them running."""
    if config is not None:
        os.environ["WEIR_CONFIG"] = str(config.absolute())
    settings = load_settings(config, os.environ)
    raise typer.Exit(asyncio.run(_Up(settings, Display(Console(soft_wrap=True, highlight=False))).run()))


class _Up:
    """One run, from the first check to the last process stopped."""

    def __init__(self, settings: Settings, display: Display) -> None:
        self._settings = settings
        self._display = display
        self._started = time.monotonic()

    async def run(self) -> int:
        """Return the exit code. Raises ConfigError, WeirError."""
        endpoints = plan_endpoints(self._settings)
        stopping = _Signals()
        with stopping:
            work = asyncio.create_task(self._work(endpoints))
            stopped = asyncio.create_task(stopping.first.wait())
            await asyncio.wait([work, stopped], return_when=asyncio.FIRST_COMPLETED)
            stopped.cancel()
            if work.done():
                return work.result()
            self._display.say(
                "Stopping: router, verifier, slm_worker, frontier_proxy. Once more to end them at once."
            )
            work.cancel()
            forced = asyncio.create_task(stopping.second.wait())
            await asyncio.wait([work, forced], return_when=asyncio.FIRST_COMPLETED)
            forced.cancel()
            if not work.done():
                # The second cancellation interrupts the graceful stop, which then kills.
                work.cancel()
            await asyncio.wait([work])
            self._display.say("Stopped.")
            return 0

    async def _work(self, endpoints: Mapping[str, Endpoint]) -> int:
        await self._fetch_models()
        async with self._viewer(endpoints) as viewer:
            specs = child_specs(self._settings, endpoints, viewer.otlp_endpoint)
            services, display = self._settings.services, self._display
            grace = max(getattr(services, name).drain_grace_s for name in SERVICES) + 5
            supervisor = Supervisor(specs, on_line=display.line, on_state=display.state, grace_s=grace)
            supervisor.start()
            try:
                return await self._serve(supervisor, endpoints, viewer)
            except GivenUp as error:
                self._display.failure(error.child)
                return 1
            finally:
                await supervisor.stop()

    async def _serve(self, supervisor: Supervisor, endpoints: Mapping[str, Endpoint], viewer: Viewer) -> int:
        self._display.say("Starting the services …")
        await supervisor.serving()
        self._display.table(supervisor.children, endpoints)
        proof = asyncio.create_task(prove(endpoints["router"].target, self._display))
        failure = asyncio.create_task(supervisor.failure())
        try:
            await asyncio.wait([proof, failure], return_when=asyncio.FIRST_COMPLETED)
            if failure.done():
                failure.result()
            if not proof.result():
                return 1
            self._display.serving(self._settings, endpoints, viewer.url, time.monotonic() - self._started)
            await failure
        finally:
            proof.cancel()
            failure.cancel()
        return 1

    async def _fetch_models(self) -> None:
        from weir.cli.models import download_progress
        from weir.models.configured import configured_models
        from weir.models.store import ModelStore, State

        store = ModelStore(self._settings.models)
        for name in configured_models(self._settings, store.manifest):
            if store.state(name).state is not State.READY:
                self._display.say(f"Fetching the model {name} …")
                with download_progress(self._display.console) as report:
                    await store.pull(name, report)

    @asynccontextmanager
    async def _viewer(self, endpoints: Mapping[str, Endpoint]) -> AsyncIterator[Viewer]:
        viewer = Viewer(
            state_directory(self._settings.state) / "traces.db",
            http_port=endpoints["trace page"].port,
            otlp_port=endpoints["trace sink"].port,
            spend=SpendSource(
                self._settings,
                endpoints["frontier_proxy"].target,
                metadata=[*credentials(os.environ), untraced()],
            ),
        )
        try:
            await self._open(viewer)
            yield viewer
        finally:
            await viewer.aclose()

    async def _open(self, viewer: Viewer) -> None:
        try:
            await viewer.start()
        except sqlite3.OperationalError as error:
            raise ConfigError(
                f"The traces cannot be kept in {state_directory(self._settings.state)} ({error}); "
                "set WEIR_STATE__DIRECTORY to a folder that can be written."
            ) from None
        except (OSError, RuntimeError) as error:
            raise ConfigError(f"The trace page cannot be started: {error}") from None


class _Signals:
    """SIGINT and SIGTERM as two events: the first of them, and any that follows."""

    def __init__(self) -> None:
        self.first = asyncio.Event()
        self.second = asyncio.Event()

    def _note(self) -> None:
        (self.second if self.first.is_set() else self.first).set()

    def __enter__(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._note)

    def __exit__(self, *_: object) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
