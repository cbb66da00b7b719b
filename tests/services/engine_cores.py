"""Engines outside the service that a test starts: those lent to it, and those that it may kill."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import psutil

from weir.engines.core.engine import CoreEngine

# Places in the engine that is lent.
MAX_SESSIONS = 3


class Lent:
    """A running engine that its borrower neither starts nor ends."""

    def __init__(self, engine: CoreEngine) -> None:
        self._engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    async def start(self) -> None:
        """Leave it running."""

    async def aclose(self) -> None:
        """Leave it running."""


@contextmanager
def lending(engine: CoreEngine | None) -> Iterator[None]:
    """Have verifiers that are built meanwhile run ``engine``; without one, each makes its own."""
    if engine is None:
        yield
        return
    with mock.patch("weir.verifier.app.create_engine", return_value=Lent(engine)):
        yield


def cores() -> set[psutil.Process]:
    """Return the processes of all engines that this one has started."""
    below = psutil.Process().children()
    return {child for child in below if "weir.engines.core.main" in child.cmdline()}
