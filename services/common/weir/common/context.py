"""What the present RPC is: its id, tenant, deadline and span, for anything that runs on its behalf."""

from __future__ import annotations

import time
from contextvars import ContextVar
from dataclasses import dataclass, field

from opentelemetry.trace import INVALID_SPAN, Span


@dataclass(slots=True)
class CallInfo:
    """The RPC that is being served. ``deadline`` is on the clock of ``time.monotonic``.

    ``operator`` says that the caller may read what others spent; ``credentials`` are the metadata by which
    it said who it is, kept for the services that are called on its behalf.
    """

    request_id: str = ""
    tenant: str = ""
    method: str = ""
    deadline: float | None = None
    span: Span = field(default=INVALID_SPAN)
    operator: bool = False
    credentials: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    def remaining(self) -> float | None:
        """Seconds to the deadline, not below zero; ``None`` where the client set none."""
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())


_current: ContextVar[CallInfo | None] = ContextVar("weir_call", default=None)


def current_call() -> CallInfo:
    """Return the RPC served by this task, or an empty one outside any."""
    return _current.get() or CallInfo()


def enter_call(info: CallInfo) -> None:
    """Make ``info`` the present call of this task; it ends with the task, so nothing resets it."""
    _current.set(info)
