"""What each server adds to the OpenAI API, as data: fields for constraints, continuation and token ids.

Read from the servers' request models: vLLM and SGLang ``entrypoints/openai``, TensorRT-LLM
``serve/openai_protocol.py`` (which refuses unknown fields), llama.cpp ``tools/server``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from weir.engines.base import Capability, Constraint

Fields = Mapping[str, Any]


def _json_schema(constraint: Constraint) -> Fields:
    schema = json.loads(constraint.value[0])
    return {
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": schema, "strict": True},
        }
    }


def _alternatives(constraint: Constraint) -> str:
    return "|".join(re.escape(choice) for choice in constraint.value)


def _gbnf(constraint: Constraint) -> str:
    literals = (json.dumps(choice, ensure_ascii=False) for choice in constraint.value)
    return f"root ::= {' | '.join(literals)}"


def _vllm(kind: str) -> Callable[[Constraint], Fields]:
    def fields(constraint: Constraint) -> Fields:
        value = list(constraint.value) if kind == "choice" else constraint.value[0]
        return {"structured_outputs": {kind: value}}

    return fields


def _format(kind: str, value: Callable[[Constraint], str]) -> Callable[[Constraint], Fields]:
    return lambda constraint: {"response_format": {"type": kind, kind: value(constraint)}}


def _field(name: str, value: Callable[[Constraint], str]) -> Callable[[Constraint], Fields]:
    return lambda constraint: {name: value(constraint)}


def _only(constraint: Constraint) -> str:
    return constraint.value[0]


@dataclass(frozen=True, slots=True)
class Dialect:
    """One server's extensions.

    Attributes:
        constraints: constraint kind to the request fields that enforce it.
        always: fields of every request.
        continuing: fields that leave a final assistant turn open; None where the server cannot.
        with_logprobs: fields of requests for log-probabilities.
        least_top_logprobs: alternatives to ask for even where none are wanted.
        top_k: whether the field exists.
        token_ids: whether ids come with the log-probabilities.
        echo_scores: whether completions return the prompt's log-probabilities.
    """

    name: str
    constraints: Mapping[str, Callable[[Constraint], Fields]]
    always: Fields = field(default_factory=dict)
    continuing: Fields | None = None
    with_logprobs: Fields = field(default_factory=dict)
    least_top_logprobs: int = 0
    logprobs: bool = True
    top_k: bool = True
    token_ids: bool = False
    echo_scores: bool = False

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What an engine over such a server can do."""
        found = {Capability.SEED, *(Capability(kind) for kind in self.constraints)}
        if self.logprobs:
            found |= {Capability.LOGPROBS, Capability.TOP_LOGPROBS}
        if self.echo_scores:
            found.add(Capability.SCORE)
        return frozenset(found)


_DIALECTS = (
    Dialect("plain", {"json_schema": _json_schema}, top_k=False),
    # A final assistant message is continued by itself; without top_logprobs it sends twenty.
    Dialect(
        "llama_cpp",
        {
            "json_schema": _json_schema,
            "grammar": _field("grammar", _only),
            "choices": _field("grammar", _gbnf),
        },
        continuing={},
        least_top_logprobs=1,
        token_ids=True,
    ),
    Dialect("ollama", {"json_schema": _json_schema}, continuing={}, logprobs=False, top_k=False),
    Dialect(
        "sglang",
        {
            "json_schema": _json_schema,
            "regex": _field("regex", _only),
            "choices": _field("regex", _alternatives),
            "grammar": _field("ebnf", _only),
        },
        continuing={"continue_final_message": True},
    ),
    Dialect(
        "tensorrt_llm",
        {
            "json_schema": _json_schema,
            "regex": _format("regex", _only),
            "choices": _format("regex", _alternatives),
            "grammar": _format("ebnf", _only),
        },
    ),
    Dialect(
        "vllm",
        {
            "json_schema": _json_schema,
            "regex": _vllm("regex"),
            "choices": _vllm("choice"),
            "grammar": _vllm("grammar"),
        },
        always={"return_token_ids": True},
        continuing={"add_generation_prompt": False, "continue_final_message": True},
        with_logprobs={"return_tokens_as_token_ids": True},
        token_ids=True,
        echo_scores=True,
    ),
)
DIALECTS = MappingProxyType({dialect.name: dialect for dialect in _DIALECTS})

# What the servers call themselves in ``owned_by`` of GET /v1/models.
OWNERS = MappingProxyType(
    {
        "library": "ollama",
        "llamacpp": "llama_cpp",
        "sglang": "sglang",
        "tensorrt_llm": "tensorrt_llm",
        "vllm": "vllm",
    }
)
