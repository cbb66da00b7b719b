"""Answers against a regular expression, choices or a grammar. Runs in the checking process."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import regex
from llguidance import LLTokenizer

from weir.common.errors import WeirError
from weir.engines.base import Constraint
from weir.verifier.checking.schema import BrokenConstraintError
from weir.verifier.constraint import matcher_of

TIMEOUT_S = 1.0


def _at(text: str, position: int) -> str:
    """Name a place by line and column, and what stands there."""
    before = text[:position]
    line, column = before.count("\n") + 1, position - (before.rfind("\n") + 1) + 1
    found = repr(text[position : position + 20]) if position < len(text) else "the end"
    return f"line {line}, column {column}: {found}"


def regex_violation(pattern: str, answer: str) -> str:
    """Return where ``answer`` leaves the pattern, which it must match as a whole, or "".

    Raises:
        BrokenConstraintError: the pattern does not compile, or takes more than a second.
    """
    try:
        compiled = regex.compile(pattern)
        if compiled.fullmatch(answer, timeout=TIMEOUT_S):
            return ""
        return f"{_at(answer, _furthest(compiled, answer))} does not match the pattern"
    except regex.error as error:
        raise BrokenConstraintError(f"it does not compile: {error}") from None
    except TimeoutError:
        raise BrokenConstraintError(
            "it backtracks without end on this answer; write it without nested repetition"
        ) from None


def _furthest(compiled: regex.Pattern[str], answer: str) -> int:
    """Return the length of the longest beginning of ``answer`` from which the pattern could still match."""
    low, high = 0, len(answer)
    while low < high:
        middle = (low + high + 1) // 2
        if compiled.fullmatch(answer[:middle], partial=True, timeout=TIMEOUT_S):
            low = middle
        else:
            high = middle - 1
    return low


def choices_violation(choices: Sequence[str], answer: str) -> str:
    """Return how ``answer`` misses the choices, or ""."""
    if answer in choices:
        return ""
    near = difflib.get_close_matches(answer, choices, n=1, cutoff=0.6)
    hint = f"; the nearest is {near[0]!r}" if near else ""
    return f"{answer[:60]!r} is none of the {len(choices)} choices{hint}"


def grammar_violation(grammar: str, answer: str) -> str:
    """Return where ``answer`` leaves the grammar, or "".

    Raises:
        BrokenConstraintError: the grammar does not compile.
    """
    try:
        matcher = matcher_of(Constraint("grammar", (grammar,)), LLTokenizer("byte"))
    except WeirError as error:
        raise BrokenConstraintError(next(iter(error.fields.values()))) from None
    data = answer.encode()
    taken = matcher.try_consume_tokens(list(data))
    if taken == len(data) and matcher.is_accepting():
        return ""
    position = len(data[:taken].decode("utf-8", "ignore"))
    return f"{_at(answer, position)} does not fit the grammar"
