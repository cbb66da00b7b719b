"""Our requests in the words of the OpenAI API and the server's dialect."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from weir.common.errors import ErrorCode, WeirError
from weir.engines.base import Constraint, GenerationRequest, Sampling
from weir.engines.openai_compat.dialects import Dialect, Fields

# Servers keep seeds in 32 or 63 bits, and llama.cpp takes the highest 32-bit one for "random".
SEED_RANGE = 1 << 31


def chat_body(request: GenerationRequest, model: str, dialect: Dialect) -> dict[str, Any]:
    """Build the body of POST /v1/chat/completions. Raises WeirError UNSUPPORTED, INVALID_CONSTRAINT."""
    body: dict[str, Any] = {
        "model": model,
        "messages": [{"role": message.role, "content": message.content} for message in request.messages],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    body |= dialect.always
    body |= _sampling(request.sampling, dialect)
    body |= _continuation(request, dialect)
    if request.constraint is not None:
        body |= _constraint(request.constraint, dialect)
    if request.logprobs or request.top_logprobs:
        body |= _logprobs(request.top_logprobs, dialect)
    return body


def score_body(prompt: Sequence[int], continuation: Sequence[int], model: str, top: int) -> dict[str, Any]:
    """Build the body of POST /v1/completions that makes a server score its prompt (vLLM)."""
    return {
        "model": model,
        "prompt": [*prompt, *continuation],
        "max_tokens": 1,
        "temperature": 0,
        "echo": True,
        "logprobs": max(top, 1),
        "return_tokens_as_token_ids": True,
    }


def _sampling(sampling: Sampling, dialect: Dialect) -> Fields:
    if sampling.top_k is not None and not dialect.top_k:
        raise unsupported(dialect, "top_k")
    fields = {
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "seed": None if sampling.seed is None else sampling.seed % SEED_RANGE,
        "stop": list(sampling.stop) or None,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _continuation(request: GenerationRequest, dialect: Dialect) -> Fields:
    if not request.messages or request.messages[-1].role != "assistant":
        return {}
    if dialect.continuing is None:
        raise unsupported(dialect, "continuing an assistant's turn")
    return dialect.continuing


def _constraint(constraint: Constraint, dialect: Dialect) -> Fields:
    fields = dialect.constraints.get(constraint.kind)
    if fields is None:
        raise unsupported(dialect, f"output constraints of kind {constraint.kind}")
    try:
        return fields(constraint)
    except json.JSONDecodeError as error:
        raise WeirError(
            ErrorCode.INVALID_CONSTRAINT,
            f"The JSON Schema is not valid JSON ({error.msg}, line {error.lineno}); correct it.",
        ) from None


def _logprobs(top: int, dialect: Dialect) -> Fields:
    if not dialect.logprobs:
        raise unsupported(dialect, "log-probabilities")
    top = max(top, dialect.least_top_logprobs)
    return {"logprobs": True, **({"top_logprobs": top} if top else {}), **dialect.with_logprobs}


def unsupported(dialect: Dialect, what: str) -> WeirError:
    """Refuse what the server's API does not have."""
    return WeirError(
        ErrorCode.UNSUPPORTED,
        f"The model's server (engine 'openai', server '{dialect.name}') does not offer {what}; "
        "leave it out, or configure an engine that does.",
    )
