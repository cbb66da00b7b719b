"""What the mock provider answers, in bytes made once, and what a prompt wants to become of it there."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

END = b"0\r\n\r\n"
# Fates of a stream that does not come to its end.
CUT = ("broken", "aborted", "killed", "held", "silent")


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of a request: a word of the table in ``mock_provider``, and the number behind ``@``."""

    word: str = ""
    at: int = 0


def fate_of(name: str, texts: Sequence[str]) -> Fate:
    """Return what a prompt wants to become of it at the provider ``name``."""
    found = re.search(rf"\b{name}:([a-z]+)(?:@(\d+))?", " ".join(texts))
    return Fate(found[1], int(found[2] or 0)) if found else Fate()


def label_of(texts: Sequence[str]) -> str:
    """Return the number that a prompt gives itself, as in ``request 12``; empty without one."""
    found = re.search(r"\brequest (\d+)\b", texts[0])
    return found[1] if found else ""


def tokens(text: str) -> int:
    """Return the tokens of a text."""
    return -(-len(text.encode()) // 4)


def words(count: int) -> list[str]:
    """Return the chunks of an answer; a lost or repeated one shows in the numbers."""
    return [f"{index:03d} " for index in range(count)]


class Stream:
    """The bytes of streamed answers of one length, made once."""

    def __init__(self, chunks: int) -> None:
        head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "mock"}
        self._head = head
        self.pieces = [self._piece({"content": word}) for word in words(chunks)]
        self.last = self._piece({}, "stop")

    def usage(self, prompt: int, completion: int) -> bytes:
        """Return the events after the last text."""
        done = b"data: [DONE]\n\n"
        told = _event({**self._head, "choices": [], "usage": _usage(prompt, completion)})
        return self.last + told + b"%x\r\n%s\r\n" % (len(done), done) + END

    def _piece(self, delta: dict[str, str], finish: str | None = None) -> bytes:
        return _event({**self._head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})


def whole(chunks: int, prompt: int) -> dict[str, object]:
    """Return an answer that is not streamed."""
    message = {"role": "assistant", "content": "".join(words(chunks))}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    head = {"id": "c", "object": "chat.completion", "created": 1, "model": "mock"}
    return {**head, "choices": [choice], "usage": _usage(prompt, chunks)}


def _usage(prompt: int, completion: int) -> dict[str, int]:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


def _event(content: object) -> bytes:
    data = b"data: " + json.dumps(content).encode() + b"\n\n"
    return b"%x\r\n%s\r\n" % (len(data), data)
