"""Token counts without a tokenizer: a bound that is never passed, and a guess for what was not reported."""

from __future__ import annotations

from collections.abc import Sequence

from weir.engines.base import ChatMessage, Constraint
from weir.frontier_proxy.providers.base import ProviderRequest

# What chat templates and the provider's own framing add, per turn and per request.
_TURN_TOKENS = 16
_REQUEST_TOKENS = 64
# Forced tools and schemas come with a hidden system prompt of several hundred tokens.
_CONSTRAINT_TOKENS = 1024
_BYTES_PER_TOKEN = 4


def prompt_bound(request: ProviderRequest) -> int:
    """Return a number of prompt tokens that no byte-level tokenizer exceeds: one a byte, and the framing."""
    constraint = request.constraint.value if request.constraint else ()
    texts = (*(message.content for message in request.messages), request.prefix)
    # A schema may be written out twice: once as the constraint, once in the provider's hidden prompt.
    size = sum(len(text.encode()) for text in (*texts, *constraint, *constraint))
    framing = _TURN_TOKENS * (len(request.messages) + 2) + _REQUEST_TOKENS
    return size + framing + (_CONSTRAINT_TOKENS if request.constraint else 0)


def prompt_estimate(messages: Sequence[ChatMessage], prefix: str, constraint: Constraint | None) -> int:
    """Return the tokens to expect of a prompt, of answer text that stands, and of a form to keep to."""
    texts = [*(message.content for message in messages), prefix, *(constraint.value if constraint else ())]
    return sum(map(token_estimate, texts)) + 4 * (len(messages) + bool(prefix))


def structured_estimate(text: str) -> int:
    """Return the tokens to expect in JSON and the like: three bytes each."""
    return -(-len(text.encode()) // 3)


def token_estimate(text: str) -> int:
    """Return the tokens to expect in ``text``: four bytes each, as English has it."""
    return -(-len(text.encode()) // _BYTES_PER_TOKEN)
