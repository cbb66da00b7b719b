"""The engine as one that can be fed token by token: whether it is, how it drafts, and its first session."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Literal, TypeAlias, cast

import structlog

from weir.common.errors import ErrorCode, WeirError
from weir.engines.base import Capability, Engine, SessionEngine

log = structlog.get_logger(__name__)
Drafts: TypeAlias = Literal["auto", "model", "lookup"]


def session_engine(engine: Engine) -> SessionEngine:
    """Return the engine as one with sessions. Raises WeirError UNSUPPORTED where it has none."""
    if Capability.SESSION not in engine.info.capabilities:
        hint = f"The {engine.info.engine} engine keeps no sessions to draft with."
        raise WeirError(ErrorCode.UNSUPPORTED, hint)
    return cast("SessionEngine", engine)


def drafting_engine(engine: Engine, wanted: Drafts) -> tuple[SessionEngine, Drafts]:
    """Return the engine and how it drafts; one without sessions copies, and then only its codec is used.

    Raises:
        WeirError: UNSUPPORTED where it cannot draft as wanted.
    """
    if wanted == "model" or (wanted == "auto" and Capability.SESSION in engine.info.capabilities):
        return session_engine(engine), wanted
    if not engine.info.tokenizer_sha256:
        hint = f"The {engine.info.engine} engine has no tokenizer to draft with."
        raise WeirError(ErrorCode.UNSUPPORTED, hint)
    return cast("SessionEngine", engine), "lookup"


class SessionWarmup:
    """Opens a first session behind the start, so that the first draft does not wait for the model to load.

    A component. Where ``wanted`` is false, or the engine has no sessions, it does nothing.
    """

    def __init__(self, engine: Engine, *, wanted: bool) -> None:
        self._engine, self._wanted = engine, wanted
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin; does not wait."""
        if self._wanted and Capability.SESSION in self._engine.info.capabilities:
            self._task = asyncio.create_task(self._warm(session_engine(self._engine)))

    async def aclose(self) -> None:
        """Break off; idempotent."""
        task, self._task = self._task, None
        if task:
            task.cancel()
            await asyncio.wait([task])

    async def _warm(self, engine: SessionEngine) -> None:
        try:
            async with aclosing(await engine.open_session()) as session:
                await session.extend(engine.codec.encode("warm"))
        except WeirError as error:
            log.warning("session_warmup_failed", code=error.code, detail=error.internal or error.hint)
