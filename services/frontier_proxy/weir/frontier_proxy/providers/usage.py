"""Token counts as providers tell them; what cannot be true is not believed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from weir.frontier_proxy.domain import TokenCounts

# More than any model takes or gives.
_MOST_TOKENS = 1_000_000_000


def number(usage: object, *path: str) -> int | None:
    """Return the count at ``path``; ``None`` where there is none, or one that is no number of tokens."""
    for name in path:
        usage = usage.get(name) if isinstance(usage, dict) else None
    # A truth value is no number here, although it is an int.
    return usage if type(usage) is int and 0 <= usage <= _MOST_TOKENS else None


def counted(
    prompt: int | None,
    completion: int | None,
    *,
    cached: int | None,
    cache_write: int | None,
    reasoning: int | None,
) -> TokenCounts | None:
    """Put a provider's counts together, each part within its whole.

    Returns ``None`` where the whole is missing. No prompt has zero tokens, so a zero is a count not made.
    """
    if not prompt or completion is None:
        return None
    read = min(cached or 0, prompt)
    return TokenCounts(
        prompt=prompt,
        completion=completion,
        cached=read,
        cache_write=min(cache_write or 0, prompt - read),
        reasoning=min(reasoning or 0, completion),
    )


def chat_counts(usage: Mapping[str, Any] | None) -> TokenCounts | None:
    """Read the usage of a chat completion.

    Some compatible servers count reasoning apart from ``completion_tokens``; the total tells which do.
    """
    if not usage:
        return None
    prompt, completion = number(usage, "prompt_tokens"), number(usage, "completion_tokens")
    reasoning = number(usage, "completion_tokens_details", "reasoning_tokens") or 0
    total = number(usage, "total_tokens")
    if prompt is not None and completion is not None and total == prompt + completion + reasoning:
        completion += reasoning
    return counted(
        prompt,
        completion,
        cached=number(usage, "prompt_tokens_details", "cached_tokens"),
        cache_write=number(usage, "prompt_tokens_details", "cache_write_tokens"),
        reasoning=reasoning,
    )


def response_counts(usage: Mapping[str, Any] | None) -> TokenCounts | None:
    """Read the usage of OpenAI's Responses API."""
    return counted(
        number(usage, "input_tokens"),
        number(usage, "output_tokens"),
        cached=number(usage, "input_tokens_details", "cached_tokens"),
        cache_write=number(usage, "input_tokens_details", "cache_write_tokens"),
        reasoning=number(usage, "output_tokens_details", "reasoning_tokens"),
    )


def message_counts(usage: Mapping[str, Any] | None, before: TokenCounts | None) -> TokenCounts | None:
    """Merge a usage object of the Messages API over an earlier one.

    Cached input is counted apart from ``input_tokens`` there, and thinking within ``output_tokens``.
    """
    before = before or TokenCounts()
    fresh = number(usage, "input_tokens")
    cached = number(usage, "cache_read_input_tokens")
    written = number(usage, "cache_creation_input_tokens")
    prompt = before.prompt if fresh is None else fresh + (cached or 0) + (written or 0)
    completion = number(usage, "output_tokens")
    return counted(
        prompt,
        before.completion if completion is None else completion,
        cached=before.cached if fresh is None else cached,
        cache_write=before.cache_write if fresh is None else written,
        reasoning=number(usage, "output_tokens_details", "thinking_tokens"),
    )


def content_counts(usage: Mapping[str, Any] | None) -> TokenCounts | None:
    """Read Gemini's usage; thinking is billed as output but told apart from it."""
    prompt, answer = number(usage, "promptTokenCount"), number(usage, "candidatesTokenCount") or 0
    reasoning = number(usage, "thoughtsTokenCount") or 0
    return counted(
        prompt and prompt + (number(usage, "toolUsePromptTokenCount") or 0),
        answer + reasoning,
        cached=number(usage, "cachedContentTokenCount"),
        cache_write=None,
        reasoning=reasoning,
    )
