"""From a row of whatever log to one request: what was asked, of which model, with how many tokens, when."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from weir.engines.base import ChatMessage
from weir.router.audit import names
from weir.router.audit.conversation import answer_text, decoded, messages_in, split
from weir.router.audit.names import normal
from weir.router.facts import BYTES_PER_TOKEN, TEMPLATE_TOKENS

MAX_TOKENS = 100_000_000
_DEPTH = 3
_Scope = dict[str, Any]
# Numbers past these are milliseconds, microseconds and nanoseconds since 1970.
_TIME_UNITS = ((1e17, 1e9), (1e14, 1e6), (1e11, 1e3))
_FIRST_YEAR, _LAST_YEAR = 946_684_800.0, 4_102_444_800.0


class RowError(ValueError):
    """A row without a usable prompt; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One request of a log.

    Attributes:
        messages: what was asked, the last user's turn at the end.
        model: as the log names it; empty where it does not.
        prompt_tokens: reported, else estimated (``estimated``).
        cached_tokens: of the prompt's, read from a cache.
        completion_tokens: reported, else estimated from the answer; ``None`` without either.
        cost_usd: as the log states it.
        at: seconds since 1970.
        constraint, max_tokens: what the request asked for.
        flaw: what in the row is impossible and was left aside.
    """

    where: str
    messages: tuple[ChatMessage, ...]
    model: str = ""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int | None = None
    estimated: bool = False
    cost_usd: float | None = None
    at: float | None = None
    constraint: str | None = None
    max_tokens: int | None = None
    flaw: str = ""


def read_entry(where: str, row: Mapping[str, Any] | str) -> Entry:
    """Read one row. Raises RowError where it holds no prompt."""
    if isinstance(row, str):
        alone = (ChatMessage("user", row),)
        return Entry(where, alone, prompt_tokens=estimate_tokens(alone), estimated=True)
    top = _scope(row)
    requests = [top, *_nested(top, names.REQUESTS)]
    responses = list(_nested(top, names.RESPONSES))
    messages, answer = _conversation(requests)
    answer = answer_text(_values([*responses, top], names.ANSWERS)) or answer
    numbers = _Numbers()
    prompt, cached, completion = _usage([top, *responses, *requests[1:]], numbers)
    guessed = prompt is None or (completion is None and bool(answer))
    if prompt is None:
        prompt = estimate_tokens(messages)
    if completion is None and answer:
        completion = _tokens(answer)
    return Entry(
        where=where,
        messages=messages,
        model=_model([*requests, *responses]),
        prompt_tokens=prompt,
        cached_tokens=min(cached, prompt),
        completion_tokens=completion,
        estimated=guessed,
        cost_usd=_cost(top, numbers),
        at=_time([top, *responses, *requests[1:]]),
        constraint=_constraint(requests),
        max_tokens=_limit(requests),
        flaw=numbers.flaw,
    )


def estimate_tokens(messages: Sequence[ChatMessage]) -> int:
    """Estimate a prompt's tokens as the router does before it has tokenized anything."""
    return sum(_tokens(message.content) + TEMPLATE_TOKENS for message in messages)


def _tokens(text: str) -> int:
    return math.ceil(len(text.encode(errors="replace")) / BYTES_PER_TOKEN)


class _Numbers:
    """Reads numbers, and remembers the first that cannot be."""

    def __init__(self) -> None:
        self.flaw = ""

    def read(self, name: str, value: Any, most: float) -> float | None:
        """Return the number, ``None`` for none or an impossible one."""
        if isinstance(value, str):
            value = _parsed(value.strip().lstrip("$").replace(",", ""))
        if value is None or isinstance(value, bool) or not isinstance(value, int | float):
            return None
        if math.isfinite(value) and 0 <= value <= most:
            return float(value)
        self.flaw = self.flaw or f"{name} is {value:g}, so it is left aside"
        return None


def _parsed(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _scope(row: Mapping[str, Any]) -> _Scope:
    return {normal(str(key)): value for key, value in row.items()}


def _nested(top: _Scope, keys: Sequence[str], depth: int = _DEPTH) -> Iterator[_Scope]:
    """Yield the objects under ``keys``, those nearest to the top first."""
    inner = [decoded(top[key]) for key in keys if key in top]
    scopes = [_scope(value) for value in inner if isinstance(value, Mapping)]
    yield from scopes
    if depth > 1:
        for scope in scopes:
            yield from _nested(scope, keys, depth - 1)


def _values(scopes: Iterable[_Scope], keys: Sequence[str]) -> Iterator[Any]:
    """Yield what the scopes have under the keys, the most telling key first."""
    known = list(scopes)
    return (scope[key] for key in keys for scope in known if scope.get(key) is not None)


def _conversation(requests: Sequence[_Scope]) -> tuple[tuple[ChatMessage, ...], str]:
    # The prompt's scope is the nearest one: a field of the row goes before one of its parts.
    for key in names.PROMPTS:
        for scope in requests:
            asked, answer = split(messages_in(scope.get(key)))
            if asked:
                return asked, answer
    raise RowError(_why_none(requests))


def _why_none(requests: Sequence[_Scope]) -> str:
    top = requests[0]
    present = [key for key in names.PROMPTS if any(key in scope for scope in requests)]
    if "spend" in top and "messages" in top:
        return "has empty messages (LiteLLM keeps them only with store_prompts_in_spend_logs)"
    if present:
        return f"has no user's text in '{present[0]}'"
    listed = ", ".join(f"'{key[:40]}'" for key in list(top)[:6]) or "none"
    return f"has no field with a prompt (fields: {listed})"


def _model(scopes: Sequence[_Scope]) -> str:
    return next((value for value in _values(scopes, names.MODELS) if isinstance(value, str) and value), "")


def _usage(scopes: Sequence[_Scope], numbers: _Numbers) -> tuple[int | None, int, int | None]:
    """Return prompt tokens, cached ones among them, and completion tokens."""
    told = _mappings(map(decoded, _values(scopes, names.USAGES)))
    details = _mappings(_values(told, names.TOKEN_DETAILS))
    prompt = _count(numbers, told, names.INPUT_TOKENS + names.BARE_INPUT)
    if prompt is None:
        prompt = _count(numbers, scopes, names.INPUT_TOKENS)
    completion = _count(numbers, told, names.OUTPUT_TOKENS + names.BARE_OUTPUT)
    if completion is None:
        completion = _count(numbers, scopes, names.OUTPUT_TOKENS)
    beside = _count(numbers, told, names.CACHE_READ_TOKENS) or 0
    cached = _count(numbers, [*details, *told], names.CACHED_TOKENS) or 0
    total = None if prompt is None else prompt + beside
    return total, cached + beside, completion


def _mappings(values: Iterable[Any]) -> list[_Scope]:
    return [_scope(value) for value in values if isinstance(value, Mapping)]


def _count(numbers: _Numbers, scopes: Sequence[_Scope], keys: Sequence[str]) -> int | None:
    for key in keys:
        for scope in scopes:
            if (number := numbers.read(key, scope.get(key), MAX_TOKENS)) is not None:
                return round(number)
    return None


def _cost(top: _Scope, numbers: _Numbers) -> float | None:
    """Return the stated cost. A zero says "unknown" as often as "free", so only a cache hit's counts."""
    stated = [*_values([top], names.COSTS)]
    stated += [
        value.get("total") for value in _values([top], names.COST_DETAILS) if isinstance(value, Mapping)
    ]
    costs = (numbers.read("cost", value, 1e6) for value in stated)
    cost = next((cost for cost in costs if cost is not None), None)
    if cost == 0:
        hits = (str(value).lower() for value in _values([top], names.CACHE_HITS))
        return 0.0 if "true" in hits else None
    return cost


def _time(scopes: Sequence[_Scope]) -> float | None:
    times = (parse_time(value) for value in _values(scopes, names.TIMES))
    return next((time for time in times if time is not None), None)


def parse_time(value: Any) -> float | None:
    """Return seconds since 1970 of an ISO 8601 text (UTC where it names no zone) or a number, or ``None``."""
    number = _parsed(value) if isinstance(value, str) else value
    if isinstance(number, int | float) and not isinstance(number, bool):
        seconds = number / next((unit for above, unit in _TIME_UNITS if number > above), 1.0)
    else:
        try:
            moment = datetime.fromisoformat(value.strip())
        except (ValueError, AttributeError):
            return None
        seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    return seconds if _FIRST_YEAR <= seconds <= _LAST_YEAR else None


def _constraint(requests: Sequence[_Scope]) -> str | None:
    for scope in requests:
        form = decoded(scope.get("responseformat"))
        if isinstance(form, Mapping) and form.get("type") == "json_schema":
            return "json_schema"
    return None


def _limit(requests: Sequence[_Scope]) -> int | None:
    limits = (value for value in _values(requests, names.LIMITS) if isinstance(value, int) and value > 0)
    return next(limits, None)
