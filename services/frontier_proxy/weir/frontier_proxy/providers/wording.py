"""How a provider that cannot be handed the start of an answer is told to go on from it."""

from __future__ import annotations

from weir.engines.base import ChatMessage
from weir.frontier_proxy.providers.base import ProviderRequest

CONTINUE = (
    "Your last message was cut off. Continue it from exactly where it stopped: write only what comes next, "
    "with a space first where a new word begins. Repeat nothing, put nothing around it, and say nothing "
    "about the interruption."
)
REWRITE = (
    "Your last message was cut off. Write it again from its first character, repeating exactly what stands "
    "there already, white space included, and complete it."
)


def conversation(request: ProviderRequest, *, prefill: bool) -> tuple[ChatMessage, ...]:
    """Return the turns to send: the prefix as a last assistant turn, and an instruction unless ``prefill``.

    An answer held to a format always begins at its beginning, so there the model is asked to repeat the
    prefix, and what it repeats is cut from the stream.
    """
    if not request.prefix:
        return request.messages
    turns = (*request.messages, ChatMessage("assistant", request.prefix))
    if prefill:
        return turns
    return (*turns, ChatMessage("user", REWRITE if request.constraint else CONTINUE))


def system_text(messages: tuple[ChatMessage, ...]) -> str:
    """Join the system turns, for providers that take them apart from the conversation."""
    return "\n\n".join(message.content for message in messages if message.role == "system")
