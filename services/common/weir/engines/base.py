"""The engine protocol: what every backend offers, in domain types that know no transport."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Role = Literal["system", "user", "assistant"]


class Capability(StrEnum):
    """What a backend can do beyond plain text generation."""

    SCORE = "score"
    SESSION = "session"
    DRAFT = "draft"
    LOGPROBS = "logprobs"
    TOP_LOGPROBS = "top_logprobs"
    JSON_SCHEMA = "json_schema"
    REGEX = "regex"
    CHOICES = "choices"
    GRAMMAR = "grammar"
    LORA = "lora"
    PREFIX_CACHE = "prefix_cache"
    SPECULATIVE = "speculative"
    SEED = "seed"


class FinishReason(StrEnum):
    """Why a generation ended."""

    STOP = "stop"
    LENGTH = "length"


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One turn. A conversation whose last turn is the assistant's is continued, not answered anew."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Sampling:
    """Sampling parameters; ``None`` means the model's own default, never zero."""

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Constraint:
    """What the text must match. ``value`` holds one string, or the choices for kind ``choices``."""

    kind: Literal["json_schema", "regex", "choices", "grammar"]
    value: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Pace:
    """How far an engine merges steps before it hands them on: up to ``max_steps``, or for ``max_delay_s``.

    The first step comes at once. What is merged at its source costs nobody a wake-up per token.
    """

    max_steps: int = 1
    max_delay_s: float = 0.0


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One prompt and everything that bounds its answer.

    ``top_logprobs`` alternatives are wanted per token; with 0 the chosen token's log-probability alone.
    ``adapter`` names a LoRA adapter, empty for the base model.
    """

    request_id: str
    messages: tuple[ChatMessage, ...]
    sampling: Sampling = field(default_factory=Sampling)
    constraint: Constraint | None = None
    logprobs: bool = False
    top_logprobs: int = 0
    adapter: str = ""
    pace: Pace = Pace()


@dataclass(frozen=True, slots=True)
class Candidate:
    """A vocabulary entry and its natural-log probability."""

    id: int
    logprob: float


@dataclass(frozen=True, slots=True)
class TokenInfo:
    """A generated token. ``top`` is best first."""

    id: int
    logprob: float | None = None
    top: tuple[Candidate, ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """What one decoding step, or several together, added: whole UTF-8 characters only, never cumulative.

    A step may carry tokens and no text (half a character is held back). The last step, and only the last,
    has ``finish_reason`` and the counts of the whole request. What the engine drafted for itself, and how
    much of that stood, is counted up to each step.
    """

    text: str = ""
    tokens: tuple[TokenInfo, ...] = ()
    finish_reason: FinishReason | None = None
    prompt_tokens: int = 0
    cached_prompt_tokens: int = 0
    completion_tokens: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0


def merge_steps(steps: Sequence[Step]) -> Step:
    """Return one step for several; finish reason and counts are the last one's."""
    if len(steps) == 1:
        return steps[0]
    text = "".join(step.text for step in steps)
    return replace(steps[-1], text=text, tokens=tuple(token for step in steps for token in step.tokens))


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What runs and what it can do, as data."""

    model: str
    engine: Literal["openvino", "tensorrt_llm", "openai"]
    quantization: str
    max_context: int
    vocab_size: int
    tokenizer_sha256: str
    capabilities: frozenset[Capability]
    adapters: tuple[str, ...] = ()
    stand_in: bool = False


@dataclass(frozen=True, slots=True)
class Load:
    """The engine's present load; ``kv_cache_used`` is a share, 0 to 1."""

    running: int
    waiting: int
    kv_cache_used: float


class Health(StrEnum):
    """Whether an engine takes requests."""

    STARTING = "starting"
    READY = "ready"
    RESTARTING = "restarting"
    FAILED = "failed"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the model expects after one position of a session.

    ``top`` is best first and never empty; ``logits`` (float32, shape [vocab]) only where asked for.
    ``next_logprob`` is that of the token fed next in the same call, ``None`` after the last one.
    """

    top: tuple[Candidate, ...]
    next_logprob: float | None = None
    logits: npt.NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class Pass:
    """What the forward passes behind one call took; several sessions may have shared each of them.

    ``tokens`` counts what was computed for all sessions in these passes, filling included: an engine may fill
    a session's few tokens up to a least number. ``sequences`` counts the sessions in the last one.
    """

    seconds: float
    tokens: int
    sequences: int

    def then(self, other: Pass) -> Pass:
        """Return what this and a later one took together."""
        return Pass(self.seconds + other.seconds, self.tokens + other.tokens, other.sequences)


class Session(Protocol):
    """A token sequence with its KV cache, for verifiers and drafters."""

    @property
    def length(self) -> int:
        """Tokens fed so far and not rewound."""
        ...

    @property
    def last_pass(self) -> Pass | None:
        """What the last ``extend`` or ``draft`` cost by the engine's measure; ``None`` where it has none."""
        ...

    async def extend(
        self,
        ids: Sequence[int],
        *,
        top: int = 1,
        logits: bool = False,
        masks: Sequence[bytes] | None = None,
        last_only: bool = False,
    ) -> list[Prediction]:
        """Feed ``ids`` in one pass and return one prediction for each, or with ``last_only`` the last alone.

        ``masks``, one per id, are little-endian bit sets over the vocabulary of the tokens that may follow
        that position; all others get probability zero before normalization.
        """
        ...

    async def draft(
        self,
        ids: Sequence[int],
        count: int,
        *,
        sampling: Sampling,
        stop_ids: frozenset[int] = frozenset(),
        min_confidence: float = 0.0,
    ) -> list[TokenInfo]:
        """Feed ``ids``, not empty, and decode up to ``count`` tokens after them, in one call.

        It ends early after a token of ``stop_ids``, and before one where the most likely token has less than
        ``min_confidence``, so that there may be none. ``length`` tells what is fed by then: all of ``ids``,
        and all drafted tokens but at most the last. At temperature 0 the tokens are the arg-max; above, each
        is drawn from a truncated distribution that is whole in its ``top``. Of ``sampling`` temperature,
        top_p, top_k and seed are read. A drafter's engine may be set up to be faster than it is exact:
        ``extend`` of the same tokens need not agree to the last bit.
        """
        ...

    async def rewind(self, length: int) -> None:
        """Forget everything past the first ``length`` tokens."""
        ...

    async def aclose(self) -> None:
        """Free the cache. May be called twice."""
        ...


class TextCodec(Protocol):
    """The model's tokenizer and chat template."""

    @property
    def sha256(self) -> str:
        """Hash over vocabulary and merges: equal hashes mean interchangeable token ids."""
        ...

    @property
    def vocab_size(self) -> int:
        """Number of ids."""
        ...

    @property
    def stop_ids(self) -> frozenset[int]:
        """Ids that end an answer."""
        ...

    def encode_chat(self, messages: Sequence[ChatMessage]) -> list[int]:
        """Apply the chat template and tokenize; a final assistant turn is left open to be continued."""
        ...

    def encode(self, text: str) -> list[int]:
        """Tokenize plain text, adding no special tokens."""
        ...

    def token_bytes(self, token_id: int) -> bytes:
        """Return the bytes that a token stands for; empty for special tokens."""
        ...

    def llguidance_tokenizer(self) -> object:
        """Return the ``llguidance.LLTokenizer`` over the same vocabulary."""
        ...


class Engine(Protocol):
    """A backend. Policies (admission, fallback, tracing) wrap it from outside."""

    @property
    def info(self) -> EngineInfo:
        """Model and capabilities; valid once started."""
        ...

    @property
    def load(self) -> Load:
        """Present load."""
        ...

    def on_load_change(self, changed: Callable[[], None]) -> None:
        """Have ``changed`` called whenever ``load`` is another than before."""
        ...

    async def start(self) -> None:
        """Load the model and run a warm-up inference. Raises WeirError MODEL_UNAVAILABLE."""
        ...

    def generate(self, request: GenerationRequest) -> AsyncGenerator[Step, None]:
        """Stream the answer; closing the iterator aborts the request within a decoding step.

        Raises WeirError: INVALID_CONSTRAINT, CONTEXT_TOO_LONG, UNKNOWN_ADAPTER, UNSUPPORTED, ENGINE_CRASHED.
        """
        ...

    async def score(
        self, prompt_ids: Sequence[int], continuation_ids: Sequence[int], *, top: int = 0
    ) -> list[TokenInfo]:
        """Return the log-probability and top candidates of each continuation token, in one pass."""
        ...

    async def health(self) -> Health:
        """Whether requests would be served now."""
        ...

    async def aclose(self) -> None:
        """Abort what runs and free everything; idempotent, and safe before ``start``."""
        ...


class SessionEngine(Engine, Protocol):
    """An engine whose model can be fed token by token."""

    @property
    def codec(self) -> TextCodec:
        """Tokenizer of the model."""
        ...

    async def open_session(self) -> Session:
        """Return a new, empty session. Raises WeirError QUEUE_FULL past the bound."""
        ...
