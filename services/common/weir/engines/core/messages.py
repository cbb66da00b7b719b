"""What crosses the socket between a server and its engine core, as msgpack frames of tagged structs."""

from __future__ import annotations

from typing import Any

import msgspec


class Message(msgspec.Struct, frozen=True, array_like=True):
    """Base of all messages: arrays on the wire, told apart by the class name."""


class Start(Message, tag="start", frozen=True):
    """First frame to the core: the backend by its registered name, and its options."""

    backend: str
    options: dict[str, Any]
    log_level: str = "info"


class Submit(Message, tag="submit", frozen=True):
    """A generation. ``max_tokens`` is resolved, sampling ``None`` is the model's default.

    ``top_logprobs`` alternatives per token; ``logprobs`` alone asks for the chosen token's.
    ``constraint_kind`` is "" or one of json_schema, regex, choices, grammar. Up to ``pace_steps`` outputs may
    be sent together, each at most ``pace_delay_s`` late.
    """

    id: int
    prompt: list[int]
    max_tokens: int
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    constraint_kind: str = ""
    constraint_value: list[str] = []
    logprobs: bool = False
    top_logprobs: int = 0
    adapter: str = ""
    pace_steps: int = 1
    pace_delay_s: float = 0.0


class Abort(Message, tag="abort", frozen=True):
    """End a generation; nothing more is sent for it."""

    id: int


class OpenSession(Message, tag="open", frozen=True):
    """Create an empty session."""

    session: int


class CloseSession(Message, tag="close", frozen=True):
    """Free a session; no answer."""

    session: int


class Extend(Message, tag="extend", frozen=True):
    """Feed ``ids``; answered by ``Extended`` with one row for each, or for the last with ``last_only``.

    The session is cut to its first ``at`` tokens before; -1 leaves it.
    """

    call: int
    session: int
    ids: list[int]
    top: int = 1
    logits: bool = False
    masks: list[bytes] | None = None
    last_only: bool = False
    at: int = -1


class Draft(Message, tag="draft", frozen=True):
    """Feed ``ids``, then decode up to ``count`` tokens; answered by ``Extended``, one row per drafted token.

    Above temperature 0 a row's candidates are the whole distribution that its token was drawn from. The
    session is cut to its first ``at`` tokens before; -1 leaves it.
    """

    call: int
    session: int
    ids: list[int]
    count: int
    stop_ids: list[int] = []
    temperature: float = 0.0
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    min_confidence: float = 0.0
    at: int = -1


class Score(Message, tag="score", frozen=True):
    """Log-probabilities of ``continuation`` after ``prompt``; answered by ``Extended``, one row per token."""

    call: int
    prompt: list[int]
    continuation: list[int]
    top: int = 0


class Row(Message, tag="row", frozen=True):
    """A position: candidates best first, log-probability of the token fed next, float32 logits if wanted."""

    ids: list[int]
    logprobs: list[float]
    next_logprob: float | None = None
    logits: bytes = b""


class Output(Message, tag="output", frozen=True):
    """What a step added to one generation. ``finish`` is "", "stop" or "length"; end tokens are left out.

    ``drafted`` and ``accepted`` count what the engine's own speculation did in this step.
    """

    id: int
    tokens: list[int] = []
    logprobs: list[float] = []
    top: list[Row] = []
    finish: str = ""
    cached_prompt_tokens: int = 0
    drafted: int = 0
    accepted: int = 0


class Extended(Message, tag="extended", frozen=True):
    """The answer to ``Extend``, ``Draft`` and ``Score``, with what its forward passes took.

    ``drafted`` are the tokens of a ``Draft``, ``length`` the session's after it. ``tokens`` counts those of
    all sequences in these passes, ``sequences`` those that shared the last one.
    """

    call: int
    rows: list[Row]
    drafted: list[int] = []
    length: int = 0
    seconds: float = 0.0
    tokens: int = 0
    sequences: int = 0


class Failed(Message, tag="failed", frozen=True):
    """A generation (``request``) or call failed alone. ``code`` is an ErrorCode's name."""

    code: str
    hint: str = ""
    internal: str = ""
    fields: dict[str, str] = {}
    request: int | None = None
    call: int | None = None


class Stats(Message, tag="stats", frozen=True):
    """Present load; ``kv_cache_used`` is a share, 0 to 1."""

    running: int = 0
    waiting: int = 0
    kv_cache_used: float = 0.0


class Ready(Message, tag="ready", frozen=True):
    """The model is loaded and has answered the warm-up inference."""

    max_context: int
    capabilities: list[str]
    quantization: str = ""
    adapters: list[str] = []


Event = Output | Extended | Failed
Call = Extend | Draft | Score
ToCore = Start | Submit | Abort | OpenSession | CloseSession | Extend | Draft | Score


class Frame(Message, tag="frame", frozen=True):
    """Everything of one step, in one write; ``stats`` where they changed."""

    events: list[Event]
    stats: Stats | None = None


ToServer = Ready | Failed | Frame

encode = msgspec.msgpack.Encoder().encode
decode_to_core = msgspec.msgpack.Decoder(ToCore).decode
decode_to_server = msgspec.msgpack.Decoder(ToServer).decode
