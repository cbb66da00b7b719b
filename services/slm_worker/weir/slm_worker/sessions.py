"""Whether the configured engine can be fed token by token."""

from __future__ import annotations

from typing import cast

from weir.common.errors import ErrorCode, WeirError
from weir.engines.base import Capability, Engine, SessionEngine


def session_engine(engine: Engine) -> SessionEngine:
    """Return the engine as one with sessions. Raises WeirError UNSUPPORTED where it has none."""
    if Capability.SESSION not in engine.info.capabilities:
        hint = f"The {engine.info.engine} engine keeps no sessions to draft with."
        raise WeirError(ErrorCode.UNSUPPORTED, hint)
    return cast("SessionEngine", engine)
