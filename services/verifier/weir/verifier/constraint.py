"""Output constraints while decoding: which tokens may follow, by an llguidance matcher."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import cast

from llguidance import LLMatcher, LLTokenizer, grammar_from

from weir.common.errors import ErrorCode, WeirError
from weir.engines.base import Constraint


def grammar_of(constraint: Constraint) -> str:
    """Translate a constraint to an llguidance grammar. Raises WeirError INVALID_CONSTRAINT."""
    text = constraint.value[0] if constraint.value else ""
    try:
        if constraint.kind == "json_schema":
            # Widest coverage of real schemas; what it lets through too much is caught by the final check.
            return str(
                LLMatcher.grammar_from_json_schema(text, overrides={"coerce_one_of": True, "lenient": True})
            )
        if constraint.kind == "choices":
            return str(grammar_from("choice", json.dumps(list(constraint.value), ensure_ascii=False)))
        return str(grammar_from("regex" if constraint.kind == "regex" else "ebnf", text))
    except ValueError as error:
        raise invalid(constraint, str(error)) from None


def invalid(constraint: Constraint, reason: str) -> WeirError:
    """Return the error for a constraint that cannot be used."""
    first_line = reason.strip().splitlines()[0][:300] if reason.strip() else "it cannot be compiled"
    return WeirError(
        ErrorCode.INVALID_CONSTRAINT,
        f"The {constraint.kind} of the output constraint does not work: {first_line}.",
        fields={f"prompt.output.{constraint.kind}": first_line},
    )


def matcher_of(constraint: Constraint, tokenizer: LLTokenizer) -> LLMatcher:
    """Compile a constraint for a vocabulary; may take long. Raises WeirError INVALID_CONSTRAINT."""
    matcher = LLMatcher(tokenizer, grammar_of(constraint), log_level=0)
    if matcher.is_error():
        raise invalid(constraint, matcher.get_error())
    return matcher


class TokenMasks:
    """The state of one constrained answer."""

    def __init__(self, matcher: LLMatcher, vocab_size: int, stop_ids: frozenset[int]) -> None:
        self._matcher = matcher
        self._width = (vocab_size + 7) // 8
        self._stop_ids = stop_ids

    @classmethod
    async def compile(
        cls, constraint: Constraint, tokenizer: object, vocab_size: int, stop_ids: frozenset[int]
    ) -> TokenMasks:
        """Compile off the event loop. Raises WeirError INVALID_CONSTRAINT."""
        matcher = await asyncio.to_thread(matcher_of, constraint, cast("LLTokenizer", tokenizer))
        return cls(matcher, vocab_size, stop_ids)

    @property
    def complete(self) -> bool:
        """Whether nothing but the end may follow."""
        return bool(self._matcher.is_stopped())

    def preview(self, ids: Sequence[int]) -> list[bytes]:
        """Return the masks at the present position and after each leading id that the constraint allows.

        So ``len(result) - 1`` of the ids are allowed. A stop id is allowed where the answer may end, and the
        mask after it allows everything, because nothing follows.
        """
        masks = [self._mask()]
        consumed = 0
        for token in ids:
            if token in self._stop_ids:
                if self._matcher.is_accepting():
                    masks.append(b"\xff" * self._width)
                break
            if not self._matcher.try_consume_tokens([token]):
                break
            consumed += 1
            masks.append(self._mask())
        if consumed:
            self._matcher.rollback(consumed)
        return masks

    def advance(self, ids: Sequence[int]) -> None:
        """Take the ids as said; stop ids end the answer and change nothing."""
        said = [token for token in ids if token not in self._stop_ids]
        if said and self._matcher.try_consume_tokens(said) != len(said):
            raise WeirError(
                ErrorCode.INTERNAL, internal=f"constraint refused a chosen token: {self._error()}"
            )

    def _mask(self) -> bytes:
        # Padded to whole 32-bit words by the library.
        mask: bytes = self._matcher.compute_bitmask()
        if self._matcher.is_error():
            raise WeirError(ErrorCode.INTERNAL, internal=f"constraint failed: {self._error()}")
        return mask[: self._width].ljust(self._width, b"\0")

    def _error(self) -> str:
        return str(self._matcher.get_error())
