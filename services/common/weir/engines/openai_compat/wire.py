"""The parts of the OpenAI API's messages that this engine reads; everything else in them is skipped."""

from __future__ import annotations

import msgspec


class TopLogprob(msgspec.Struct):
    """A token and its log-probability; ``id`` only from servers that tell it."""

    token: str = ""
    logprob: float | None = None
    id: int | None = None


class TokenLogprob(TopLogprob):
    """A generated token with its alternatives."""

    top_logprobs: list[TopLogprob] | None = None


class Logprobs(msgspec.Struct):
    """Log-probabilities of a chunk's tokens."""

    content: list[TokenLogprob] | None = None


class Delta(msgspec.Struct):
    """New text."""

    content: str | None = None


class Choice(msgspec.Struct):
    """One answer's part of a chunk; ``token_ids`` is vLLM's."""

    delta: Delta = msgspec.field(default_factory=Delta)
    finish_reason: str | None = None
    logprobs: Logprobs | None = None
    token_ids: list[int] | None = None


class PromptTokensDetails(msgspec.Struct):
    """How much of the prompt came from the prefix cache."""

    cached_tokens: int | None = None


class Usage(msgspec.Struct):
    """Counts of the whole request."""

    prompt_tokens: int = 0
    completion_tokens: int | None = 0
    prompt_tokens_details: PromptTokensDetails | None = None


class ErrorBody(msgspec.Struct):
    """An error, as the API words it; ``code`` is a status or a name."""

    message: str = ""
    type: str | None = None
    code: str | int | None = None


class Chunk(msgspec.Struct):
    """One event of a streamed answer. Some servers report a failure in mid-stream in ``error``."""

    choices: list[Choice] = []
    usage: Usage | None = None
    error: ErrorBody | str | None = None


class Failure(msgspec.Struct):
    """The body of an error response; TensorRT-LLM and older vLLM leave out the envelope."""

    error: ErrorBody | str | None = None
    message: str = ""
    type: str | None = None

    @property
    def body(self) -> ErrorBody:
        """The error, whichever form it came in."""
        if isinstance(self.error, ErrorBody):
            return self.error
        return ErrorBody(message=self.error or self.message, type=self.type)


class ModelMeta(msgspec.Struct):
    """What llama.cpp tells about a model."""

    n_vocab: int = 0
    n_ctx: int = 0


class ModelCard(msgspec.Struct):
    """A model of GET /v1/models; ``max_model_len`` is vLLM's and SGLang's, ``parent`` vLLM's."""

    id: str
    owned_by: str = ""
    max_model_len: int | None = None
    parent: str | None = None
    aliases: list[str] = []
    meta: ModelMeta | None = None


class ModelList(msgspec.Struct):
    """GET /v1/models."""

    data: list[ModelCard] = []


class EchoLogprobs(msgspec.Struct):
    """Log-probabilities of POST /v1/completions, prompt included."""

    tokens: list[str] = []
    token_logprobs: list[float | None] = []
    top_logprobs: list[dict[str, float] | None] | None = None


class EchoChoice(msgspec.Struct):
    """A completion with its echoed prompt."""

    logprobs: EchoLogprobs | None = None


class Completion(msgspec.Struct):
    """POST /v1/completions."""

    choices: list[EchoChoice] = []
