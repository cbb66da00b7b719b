"""Token counts without a tokenizer: a bound that is never passed, and a guess for what was not reported."""

from __future__ import annotations

from collections.abc import Iterable

from weir.frontier_proxy.providers.base import ProviderRequest

# What chat templates and the provider's own framing add, per turn and per request.
_TURN_TOKENS = 16
_REQUEST_TOKENS = 64
# Forced tools and schemas come with a hidden system prompt of several hundred tokens.
_CONSTRAINT_TOKENS = 1024
_BYTES_PER_TOKEN = 4


def _texts(request: ProviderRequest) -> Iterable[str]:
    yield from (message.content for message in request.messages)
    if request.prefix:
        yield request.prefix
    if request.constraint:
        yield from request.constraint.value


def prompt_bound(request: ProviderRequest) -> int:
    """Return a number of prompt tokens that no byte-level tokenizer exceeds: one a byte, and the framing."""
    size = sum(len(text.encode()) for text in _texts(request))
    framing = _TURN_TOKENS * (len(request.messages) + 2) + _REQUEST_TOKENS
    # A schema may be written out twice: once as the constraint, once in the provider's hidden prompt.
    extra = sum(len(v.encode()) for v in request.constraint.value) if request.constraint else 0
    return size + framing + (_CONSTRAINT_TOKENS + extra if request.constraint else 0)


def prompt_estimate(request: ProviderRequest) -> int:
    """Return the prompt tokens to expect."""
    return sum(map(token_estimate, _texts(request))) + 4 * len(request.messages)


def structured_estimate(text: str) -> int:
    """Return the tokens to expect in JSON and the like: three bytes each."""
    return -(-len(text.encode()) // 3)


def token_estimate(text: str) -> int:
    """Return the tokens to expect in ``text``: four bytes each, as English has it."""
    return -(-len(text.encode()) // _BYTES_PER_TOKEN)
