"""Drafter and target as engines of this process, beside the services."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from weir.common.config.model import LocalModel, Models
from weir.engines.base import SessionEngine
from weir.engines.registry import create_engine
from weir.models.store import ModelStore

MAX_CONTEXT = 8192


@dataclass(frozen=True, slots=True)
class Pair:
    """Both engines, started."""

    drafter: SessionEngine
    target: SessionEngine


@asynccontextmanager
async def pair_of(drafter: Path, target: Path) -> AsyncIterator[Pair]:
    """Start both engines as the services start theirs; leaving the block ends them."""
    async with AsyncExitStack() as stack:
        engines = []
        for path, sessions_only in ((drafter, False), (target, True)):
            engine = cast(
                "SessionEngine",
                create_engine(
                    path.stem,
                    LocalModel(path=path),
                    ModelStore(Models()),
                    max_context=MAX_CONTEXT,
                    sessions_only=sessions_only,
                ),
            )
            stack.push_async_callback(engine.aclose)
            await engine.start()
            engines.append(engine)
        yield Pair(*engines)
