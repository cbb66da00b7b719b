"""A generation as the keyword arguments of ``SamplingParams`` and ``GuidedDecodingParams``."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from typing import Any

from weir.engines.base import Sampling
from weir.engines.core.backend import RequestFailed
from weir.engines.core.messages import Submit


def sampling_arguments(request: Submit, defaults: Sampling, stop_ids: Sequence[int]) -> dict[str, Any]:
    """Keyword arguments of ``SamplingParams``, guided decoding left out.

    Args:
        request: the generation; its ``max_tokens`` is always sent, because the library's own limit is 32.
        defaults: the model's own sampling, used for what the caller left out.
        stop_ids: ids that end an answer.
    """
    arguments: dict[str, Any] = {
        "max_tokens": request.max_tokens,
        "detokenize": False,
        **_randomness(request, defaults),
    }
    if stop_ids:
        arguments["end_id"] = stop_ids[0]
        arguments["stop_token_ids"] = list(stop_ids)
    if request.logprobs or request.top_logprobs:
        arguments["logprobs"] = max(1, request.top_logprobs)
    return arguments


def _randomness(request: Submit, defaults: Sampling) -> dict[str, Any]:
    temperature = defaults.temperature if request.temperature is None else request.temperature
    if temperature == 0:
        # The library takes temperatures above zero only; one candidate is the same as greedy.
        return {"top_k": 1}
    chosen = {
        "temperature": temperature,
        "top_p": defaults.top_p if request.top_p is None else request.top_p,
        "top_k": defaults.top_k if request.top_k is None else request.top_k,
    }
    given = {name: value for name, value in chosen.items() if value is not None}
    # With none of the three set the library decodes greedily, and its seed is always the same one.
    seed = random.getrandbits(31) if request.seed is None else request.seed
    return (given or {"temperature": 1.0}) | {"seed": seed}


def guided_arguments(kind: str, values: Sequence[str]) -> dict[str, Any] | None:
    """Keyword arguments of ``GuidedDecodingParams``; ``None`` for free text (an empty ``kind``).

    Raises:
        RequestFailed: INVALID_CONSTRAINT, for a schema that is no JSON or an empty list of choices.
    """
    if not kind:
        return None
    if kind == "choices":
        return {"regex": choices_regex(values)}
    (value,) = values
    if kind == "json_schema":
        return {"json": _schema(value)}
    return {kind: value}


def choices_regex(choices: Sequence[str]) -> str:
    """Return a regular expression that matches exactly the given texts.

    Raises:
        RequestFailed: INVALID_CONSTRAINT, where there are none or an empty one.
    """
    if not choices or "" in choices:
        raise RequestFailed("INVALID_CONSTRAINT", "Give at least one choice, and no empty one.")
    return "(" + "|".join(re.escape(choice) for choice in choices) + ")"


def _schema(text: str) -> str:
    try:
        parsed = json.loads(text)
    except ValueError as error:
        raise RequestFailed("INVALID_CONSTRAINT", f"The schema is not valid JSON: {error}.") from None
    if not isinstance(parsed, dict | bool):
        raise RequestFailed("INVALID_CONSTRAINT", "A JSON schema is an object; this one is not.")
    return text
