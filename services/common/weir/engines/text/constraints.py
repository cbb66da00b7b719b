"""Output constraints as llguidance grammars; refused with a sentence where they cannot be met."""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import llguidance

from weir.common.errors import ErrorCode, WeirError
from weir.engines.base import Constraint
from weir.engines.text.codec import Codec

if TYPE_CHECKING:
    from llguidance._lib import JsonCompileOptions

_REMEMBERED = 256
# A token's mask costs about a microsecond for each byte of a regular expression.
_MAX_REGEX_BYTES = 32_768
# Small models ramble in free white space: JSON is spelled as Python spells it. A schema's x-guidance wins.
_JSON_STYLE: JsonCompileOptions = {
    "whitespace_flexible": False,
    "item_separator": ", ",
    "key_separator": ": ",
    "coerce_one_of": True,
}


def limits() -> llguidance.LLParserLimits:
    """Return bounds under which compiling took at most 0.6 s and a mask 40 ms, on evil constraints."""
    return llguidance.LLParserLimits(verbose_errors=False, max_items_in_row=10_000)


def grammar(kind: str, value: Sequence[str]) -> str:
    """Translate a constraint into llguidance's form.

    Raises:
        ValueError: not even its syntax can be read.
    """
    match kind:
        case "json_schema":
            return str(llguidance.LLMatcher.grammar_from_json_schema(_schema(value[0]), defaults=_JSON_STYLE))
        case "regex":
            if len(value[0].encode()) > _MAX_REGEX_BYTES:
                raise ValueError(f"it is longer than {_MAX_REGEX_BYTES} bytes")
            return str(llguidance.LLMatcher.grammar_from_regex(value[0]))
        case "choices":
            return str(llguidance.grammar_from("choice", json.dumps(list(value))))
        case "grammar":
            return str(llguidance.grammar_from("grammar", value[0]))
    raise ValueError(f"unknown kind {kind!r}")


def _schema(text: str) -> str:
    try:
        schema = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if schema is False:
        raise ValueError("no text matches the schema false")
    return "{}" if schema is True else text


class ConstraintChecker:
    """Compiles constraints on trial, off the event loop, and remembers what came of it."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._known: OrderedDict[Constraint, str] = OrderedDict()

    async def check(self, constraint: Constraint) -> None:
        """Return if the constraint can be compiled and met.

        Raises:
            WeirError: INVALID_CONSTRAINT, naming the field and the reason.
        """
        if constraint not in self._known:
            self._known[constraint] = await asyncio.to_thread(self._problem, constraint)
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        if problem := self._known[constraint]:
            path = f"prompt.output.{constraint.kind}"
            raise WeirError(ErrorCode.INVALID_CONSTRAINT, f"{path}: {problem}", fields={path: problem})

    def _problem(self, constraint: Constraint) -> str:
        try:
            text = grammar(constraint.kind, constraint.value)
        except ValueError as error:
            return f"cannot be read: {first_line(str(error))}."
        matcher = llguidance.LLMatcher(self._codec.llguidance_tokenizer(), text, log_level=0, limits=limits())
        if matcher.is_error():
            return f"cannot be compiled: {first_line(matcher.get_error())}."
        matcher.compute_bitmask()
        if matcher.is_error():
            return f"cannot be met: {first_line(matcher.get_error())}."
        if matcher.is_stopped() and not matcher.is_accepting():
            return "cannot be met: no text matches it."
        return ""


def first_line(text: str) -> str:
    """Return what of a library's message may be shown."""
    return text.strip().splitlines()[0][:300].rstrip(".") if text.strip() else ""
