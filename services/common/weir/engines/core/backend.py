"""What an inference runtime offers to the core loop. Lives in the core process alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from weir.engines.core.messages import Call, Event, Failed, Ready, Stats, Submit


class RequestFailed(Exception):  # noqa: N818 - it is an answer, no mishap of ours
    """One request or call fails, and nothing else does. ``code`` is the name of an ErrorCode."""

    def __init__(
        self, code: str, hint: str = "", *, internal: str = "", fields: dict[str, str] | None = None
    ) -> None:
        super().__init__(f"{code}: {internal or hint}")
        self.code, self.hint, self.internal, self.fields = code, hint, internal, fields or {}

    def for_request(self, request: int) -> Failed:
        """Return the event that tells a generation's owner."""
        return Failed(self.code, self.hint, self.internal, self.fields, request=request)

    def for_call(self, call: int) -> Failed:
        """Return the event that tells a call's owner."""
        return Failed(self.code, self.hint, self.internal, self.fields, call=call)


class CoreBackend(Protocol):
    """A runtime with one model loaded.

    All methods are called on the core's one thread and must not block, ``step`` excepted, which does one unit
    of work: a decoding step of the batch, or a chunk of a session. Order of a life: the factory loads the
    model and warms it up; ``submit`` … ``step`` in any order; ``close``. A runtime with threads of its own
    returns False from ``has_work`` while it has nothing to hand over and calls the ``wake`` that the factory
    was given, from any thread, once it has.

    Any method may raise ``RequestFailed``: the request or call at hand fails alone. Any other exception from
    ``step`` ends the process, and the server restarts it.
    """

    def ready(self) -> Ready:
        """Return the facts of the loaded model."""
        ...

    def submit(self, request: Submit) -> None:
        """Take a generation; its ``Output`` events come from ``step``."""
        ...

    def abort(self, request: int) -> None:
        """Stop a generation before the next decoding step; unknown ids are ignored."""
        ...

    def open_session(self, session: int) -> None:
        """Create an empty session."""
        ...

    def close_session(self, session: int) -> None:
        """Free a session and drop its queued calls; unknown ids are ignored."""
        ...

    def call(self, call: Call) -> None:
        """Queue a session operation or a scoring; answered from ``step``, in order for each session."""
        ...

    def has_work(self) -> bool:
        """Whether ``step`` would do something now."""
        ...

    def step(self) -> Sequence[Event]:
        """Do one unit of work and return what came of it."""
        ...

    def stats(self) -> Stats:
        """Return the present load."""
        ...

    def close(self) -> None:
        """Free the model."""
        ...


Wake = Callable[[], None]
BackendFactory = Callable[[dict[str, Any], Wake], CoreBackend]


def backend_factory(name: str) -> BackendFactory:
    """Return the factory of a registered backend; its runtime is imported only now.

    Raises:
        RequestFailed: MODEL_UNAVAILABLE where the runtime's package is not installed.
    """
    try:
        if name == "openvino":
            from weir.engines.core.openvino import backend

            return backend.create
        if name == "tensorrt_llm":
            from weir.engines.tensorrt_llm import core

            return core.create
    except ImportError as error:
        extra = "gpu" if name == "tensorrt_llm" else "cpu"
        hint = f"The {name} runtime is not installed; install it with `pip install weir[{extra}]`."
        raise RequestFailed("MODEL_UNAVAILABLE", hint, internal=str(error)) from error
    raise RequestFailed("UNSUPPORTED", f"There is no engine backend {name!r}.")
