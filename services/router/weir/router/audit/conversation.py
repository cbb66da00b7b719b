"""Messages as the many APIs write them, brought to roles and text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from weir.engines.base import ChatMessage, Role
from weir.router.audit.names import normal
from weir.router.audit.rows import parse_json

# What a tool gave back is context to the prompt, not the prompt.
_ROLES: dict[str, Role] = {
    "user": "user", "human": "user", "customer": "user", "prompt": "user",
    "assistant": "assistant", "ai": "assistant", "model": "assistant", "gpt": "assistant", "bot": "assistant",
    "chatbot": "assistant", "tool": "assistant", "function": "assistant",
    "system": "system", "developer": "system",
}  # fmt: skip
_ROLE_KEYS = ("role", "from", "sender", "author", "type")
_TEXT_KEYS = ("content", "value", "text", "parts", "message")
_MAX_DEPTH = 6


def decoded(value: Any) -> Any:
    """Return the JSON inside of a string that holds an object or a list, else the value itself."""
    if not isinstance(value, str) or value.lstrip()[:1] not in ("{", "["):
        return value
    try:
        return parse_json(value)
    except ValueError:
        return value


def plain_text(value: Any, depth: int = 0) -> str:
    """Return the text in a message's content: a string, a list of parts, or parts within parts."""
    if isinstance(value, str):
        return value
    if depth >= _MAX_DEPTH:
        return ""
    if isinstance(value, Mapping):
        return next((text for key in _TEXT_KEYS if (text := plain_text(value.get(key), depth + 1))), "")
    if isinstance(value, Sequence):
        return "\n".join(text for part in value if (text := plain_text(part, depth + 1)))
    return ""


def messages_in(value: Any) -> list[ChatMessage]:
    """Return the messages that ``value`` holds; none where it holds no text.

    A string is a user's message. Of a list of strings (several turns, or a batch) the first is taken.
    """
    value = decoded(value)
    if isinstance(value, str):
        return [ChatMessage("user", value)] if value.strip() else []
    if isinstance(value, Mapping):
        return [message] if (message := _message(value)) else []
    if not isinstance(value, Sequence):
        return []
    if any(isinstance(item, Mapping) for item in value):
        found = (_message(item) for item in value if isinstance(item, Mapping))
        return [message for message in found if message]
    first = next((item for item in value if isinstance(item, str) and item.strip()), "")
    return [ChatMessage("user", first)] if first else []


def split(messages: Sequence[ChatMessage]) -> tuple[tuple[ChatMessage, ...], str]:
    """Split into what was asked, up to the last user's turn, and the text of the answer that follows it."""
    last = next((i for i in reversed(range(len(messages))) if messages[i].role == "user"), -1)
    answer = "\n".join(message.content for message in messages[last + 1 :] if message.role == "assistant")
    return tuple(messages[: last + 1]), answer


def answer_text(values: Iterable[Any]) -> str:
    """Return the text of the first value that holds any: a choice, a candidate, a list of parts."""
    return next((text for value in values if (text := plain_text(decoded(value)).strip())), "")


def _message(item: Mapping[str, Any]) -> ChatMessage | None:
    role = next((str(item[key]) for key in _ROLE_KEYS if isinstance(item.get(key), str)), "")
    known = _ROLES.get(normal(role))
    text = next((text for key in _TEXT_KEYS if (text := plain_text(item.get(key)))), "")
    return ChatMessage(known, text) if known and text.strip() else None
