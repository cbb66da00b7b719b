"""Log-probabilities of given tokens, read from an echoed completion."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from weir.engines.base import Candidate, TokenInfo
from weir.engines.openai_compat.failures import broken_off
from weir.engines.openai_compat.wire import Completion, EchoLogprobs

_ID_PREFIX = "token_id:"


def read_scores(content: bytes, start: int, ids: Sequence[int], top: int) -> list[TokenInfo]:
    """Return one entry per id, of the positions from ``start`` on. Raises WeirError STREAM_BROKEN."""
    try:
        choices = msgspec.json.decode(content, type=Completion).choices
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise broken_off(f"unreadable scores: {error}") from None
    echoed = choices[0].logprobs if choices else None
    expected = [f"{_ID_PREFIX}{token_id}" for token_id in ids]
    if echoed is None or echoed.tokens[start : start + len(ids)] != expected:
        raise broken_off("the server echoed other tokens than were sent")
    return [TokenInfo(token_id, *_entry(echoed, start + i, top)) for i, token_id in enumerate(ids)]


def _entry(echoed: EchoLogprobs, position: int, top: int) -> tuple[float | None, tuple[Candidate, ...]]:
    alternatives = (echoed.top_logprobs[position] if echoed.top_logprobs else None) or {}
    candidates = [Candidate(int(t.removeprefix(_ID_PREFIX)), logprob) for t, logprob in alternatives.items()]
    best = sorted(candidates, key=lambda candidate: -candidate.logprob)[:top]
    return echoed.token_logprobs[position], tuple(best)
