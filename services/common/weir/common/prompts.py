"""Prompts as the services see them: validated once, converted once, for all four."""

from __future__ import annotations

import math
from dataclasses import dataclass

from weir.common.errors import ErrorCode, WeirError
from weir.engines.base import ChatMessage, Constraint, Role, Sampling
from weir.v1 import types_pb2

_ROLES: dict[types_pb2.Role.ValueType, Role] = {
    types_pb2.ROLE_SYSTEM: "system",
    types_pb2.ROLE_USER: "user",
    types_pb2.ROLE_ASSISTANT: "assistant",
}
_ROLE_VALUES = {name: value for value, name in _ROLES.items()}
MAX_STOP_STRINGS = 16
MAX_CONSTRAINT_BYTES = 262_144


@dataclass(frozen=True, slots=True)
class PromptSpec:
    """A valid prompt: at least one message with text, finite sampling values, a non-empty constraint."""

    messages: tuple[ChatMessage, ...]
    sampling: Sampling
    constraint: Constraint | None


def prompt_from_proto(prompt: types_pb2.Prompt, *, max_bytes: int | None = None) -> PromptSpec:
    """Convert and validate.

    Raises:
        WeirError: INVALID_PROMPT, INVALID_SAMPLING or INVALID_CONSTRAINT, with the field's path.
    """
    return PromptSpec(_messages(prompt, max_bytes), _sampling(prompt.sampling), _constraint(prompt.output))


def prompt_to_proto(spec: PromptSpec) -> types_pb2.Prompt:
    """Convert back, for the next hop. Absent values stay absent."""
    sampling, constraint = spec.sampling, spec.constraint
    proto = types_pb2.Prompt(
        messages=[types_pb2.Message(role=_ROLE_VALUES[m.role], content=m.content) for m in spec.messages],
        sampling=types_pb2.SamplingParams(
            max_tokens=sampling.max_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            seed=sampling.seed,
            stop=sampling.stop,
        ),
    )
    if constraint is not None:
        if constraint.kind == "choices":
            proto.output.choices.choice.extend(constraint.value)
        else:
            setattr(proto.output, constraint.kind, constraint.value[0])
    return proto


def _bad(code: ErrorCode, path: str, problem: str) -> WeirError:
    return WeirError(code, f"{path}: {problem}.", fields={path: problem})


def _messages(prompt: types_pb2.Prompt, max_bytes: int | None) -> tuple[ChatMessage, ...]:
    if not prompt.messages:
        raise _bad(ErrorCode.INVALID_PROMPT, "prompt.messages", "at least one message is needed")
    size = sum(len(message.content.encode()) for message in prompt.messages)
    if max_bytes is not None and size > max_bytes:
        problem = f"{size} bytes of text exceed the limit of {max_bytes}"
        raise _bad(ErrorCode.INVALID_PROMPT, "prompt.messages", problem)
    for index, message in enumerate(prompt.messages):
        if message.role not in _ROLES:
            problem = "set a role: system, user or assistant"
            raise _bad(ErrorCode.INVALID_PROMPT, f"prompt.messages[{index}].role", problem)
        if not message.content.strip():
            raise _bad(
                ErrorCode.INVALID_PROMPT, f"prompt.messages[{index}].content", "is empty; write some text"
            )
    return tuple(ChatMessage(_ROLES[message.role], message.content) for message in prompt.messages)


def _sampling(params: types_pb2.SamplingParams) -> Sampling:
    def check(name: str, low: float, high: float, *, above: bool = False) -> None:
        if not params.HasField(name):  # type: ignore[arg-type]
            return
        value = getattr(params, name)
        if not math.isfinite(value) or value > high or value < low or (above and value == low):
            bound = f"must be {'above' if above else 'at least'} {low:g} and at most {high:g}"
            raise _bad(ErrorCode.INVALID_SAMPLING, f"prompt.sampling.{name}", bound)

    check("max_tokens", 1, 2**20)
    check("temperature", 0, 2)
    check("top_p", 0, 1, above=True)
    check("top_k", 1, 2**20)
    if len(params.stop) > MAX_STOP_STRINGS or not all(params.stop):
        problem = f"give at most {MAX_STOP_STRINGS} stop strings, none of them empty"
        raise _bad(ErrorCode.INVALID_SAMPLING, "prompt.sampling.stop", problem)
    return Sampling(
        max_tokens=params.max_tokens if params.HasField("max_tokens") else None,
        temperature=params.temperature if params.HasField("temperature") else None,
        top_p=params.top_p if params.HasField("top_p") else None,
        top_k=params.top_k if params.HasField("top_k") else None,
        seed=params.seed if params.HasField("seed") else None,
        stop=tuple(params.stop),
    )


def _constraint(output: types_pb2.OutputConstraint) -> Constraint | None:
    kind = output.WhichOneof("constraint")
    if kind is None:
        return None
    value = tuple(output.choices.choice) if kind == "choices" else (getattr(output, kind),)
    if not value or not all(value):
        raise _bad(ErrorCode.INVALID_CONSTRAINT, f"prompt.output.{kind}", "is empty")
    if sum(len(part.encode()) for part in value) > MAX_CONSTRAINT_BYTES:
        problem = f"exceeds {MAX_CONSTRAINT_BYTES} bytes"
        raise _bad(ErrorCode.INVALID_CONSTRAINT, f"prompt.output.{kind}", problem)
    return Constraint(kind, value)
