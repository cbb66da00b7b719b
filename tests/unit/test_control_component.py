"""The controller as a component: its loop, and what it does when a look fails."""

from __future__ import annotations

import asyncio

from structlog.testing import capture_logs

from weir.common.config import Settings
from weir.router.control.controller import Controller
from weir.router.control.state import State
from weir.router.control.summary import Summary

# Sixty looks a window.
SETTINGS = Settings.model_validate({"routing": {"dynamic_adjustment": {"window_seconds": 0.6}}})


class Replicas:
    """Stands in for the shared state: the first look fails."""

    connected = True

    def __init__(self) -> None:
        self.looks = 0
        self.second = asyncio.Event()
        self.closed = 0

    async def merge(self, mine: Summary) -> Summary:
        return mine

    async def agree(self, mine: State, now: float) -> State:
        del now
        self.looks += 1
        if self.looks == 1:
            raise RuntimeError("first")
        self.second.set()
        return mine

    async def aclose(self) -> None:
        self.closed += 1


async def test_look_that_fails_is_logged_and_the_next_one_comes() -> None:
    replicas = Replicas()
    controller = Controller(SETTINGS, shared=replicas)
    with capture_logs() as logs:
        await controller.start()
        async with asyncio.timeout(10):
            await replicas.second.wait()
        await controller.aclose()
    assert [entry["event"] for entry in logs] == ["controller_failed"]


async def test_closing_is_safe_before_the_start_and_twice() -> None:
    controller = Controller(SETTINGS)
    await controller.aclose()
    await controller.start()
    await controller.aclose()
    await controller.aclose()


async def test_closing_leaves_the_shared_state() -> None:
    replicas = Replicas()
    controller = Controller(SETTINGS, shared=replicas)
    await controller.start()
    await controller.aclose()
    assert replicas.closed == 1
