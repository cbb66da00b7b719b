"""The measures of a request that need no model."""

from __future__ import annotations

from weir.common.prompts import PromptSpec
from weir.router.domain import Facts, Policy

# Bytes of UTF-8 a token stands for, on average over English text and code with today's vocabularies, and
# what a chat template adds to each message. The engines count exactly and refuse what does not fit after all.
BYTES_PER_TOKEN = 4.0
TEMPLATE_TOKENS = 4


def estimate_tokens(prompt: PromptSpec) -> int:
    """Estimate the prompt's length in tokens without tokenizing it."""
    size = sum(len(message.content.encode()) for message in prompt.messages)
    return round(size / BYTES_PER_TOKEN) + TEMPLATE_TOKENS * len(prompt.messages)


def measure(prompt: PromptSpec, policy: Policy) -> Facts:
    """Collect what eligibility and selection look at."""
    kind = prompt.constraint.kind if prompt.constraint else None
    return Facts(estimate_tokens(prompt), prompt.sampling.max_tokens, kind, policy)


def affinity_key(prompt: PromptSpec, *, length: int = 512) -> bytes:
    """Name the prefix that a replica's cache may hold: the system prompt and the first message after it."""
    head = prompt.messages[:2] if prompt.messages[0].role == "system" else prompt.messages[:1]
    return "\0".join(message.content[:length] for message in head).encode()
