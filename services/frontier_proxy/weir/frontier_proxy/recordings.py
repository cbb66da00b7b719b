"""Recorded answers: reading them, finding one for a prompt, and cutting it into tokens."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Annotated

import msgspec

from weir.common.config import ConfigError

# About as vocabularies of some 100,000 tokens cut text: words with their space, short numbers, signs.
_PIECE = re.compile(r"\s?[^\W\d_]{1,10}|\s?\d{1,3}|\s?[^\w\s]{1,2}|\s+|.", re.DOTALL)


def pieces(text: str) -> list[str]:
    """Cut a text into about its tokens; joined they are the text."""
    return _PIECE.findall(text)


class Recorded(msgspec.Struct, frozen=True):
    """One line of a recording: a prompt and its answer.

    ``strong_answer`` is taken where there is no ``answer``, so that routing data can be played as it is.
    ``completion_tokens`` is what the provider counted; without it, ``pieces`` are counted.
    """

    prompt: str
    answer: str = ""
    strong_answer: str = ""
    completion_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None

    @property
    def tokens_per_piece(self) -> float:
        """How many of the provider's tokens a piece of the answer stands for."""
        return self.completion_tokens / len(pieces(self.answer)) if self.completion_tokens else 1.0


class Recording:
    """The answers of a file of JSON lines, each with a prompt and an answer; see ``Recorded``.

    Raises:
        ConfigError: the file is missing, empty or has a line without prompt or answer; names the line.
    """

    def __init__(self, path: Path) -> None:
        self._answers = _read(path)
        self._by_prompt = {_key(recorded.prompt): recorded for recorded in reversed(self._answers)}

    def __len__(self) -> int:
        return len(self._answers)

    def find(self, prompt: str) -> Recorded:
        """Return the first answer recorded for a prompt, white space aside; else the one its hash chooses."""
        key = _key(prompt)
        if found := self._by_prompt.get(key):
            return found
        digest = hashlib.sha256(key.encode()).digest()
        return self._answers[int.from_bytes(digest[:8], "big") % len(self._answers)]


def _key(prompt: str) -> str:
    return " ".join(prompt.split())


def _read(path: Path) -> list[Recorded]:
    try:
        with path.open("rb") as lines:
            answers = [_answer(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]
    except OSError as error:
        raise ConfigError(f"The recording {path} cannot be read: {error.strerror}.") from None
    if not answers:
        raise ConfigError(f"The recording {path} is empty; it needs a line with prompt and answer.")
    return answers


def _answer(path: Path, number: int, line: bytes) -> Recorded:
    try:
        row = msgspec.json.decode(line, type=Recorded)
    except ValueError as error:
        raise ConfigError(f"The recording {path} cannot be used: line {number}: {error}.") from None
    answer = row.answer or row.strong_answer
    if not answer:
        raise ConfigError(f"The recording {path} cannot be used: line {number} has no answer.")
    return Recorded(row.prompt, answer, completion_tokens=row.completion_tokens)
