"""From a conversation to the text that is classified, and from text to wordpieces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from weir.engines.base import ChatMessage

# Earlier turns say what the last one is about; past this they would drown it.
MAX_EARLIER_CHARS = 1_000
# Texts past this are tokenized at both ends only, so that a huge prompt cannot hold a thread for long.
MAX_EXACT_CHARS = 65_536


def routing_text(messages: Sequence[ChatMessage]) -> str:
    """Return the last user turn, after what came before it as far as ``MAX_EARLIER_CHARS`` reaches.

    System prompts are left out: they belong to the application and would be the same for each request.
    """
    turns = [message for message in messages if message.role != "system" and message.content]
    last = next((i for i in reversed(range(len(turns))) if turns[i].role == "user"), len(turns) - 1)
    if last < 0:
        return ""
    earlier = "\n\n".join(turn.content[-MAX_EARLIER_CHARS:] for turn in turns[:last][-8:])
    return f"{earlier[-MAX_EARLIER_CHARS:]}\n\n{turns[last].content}" if earlier else turns[last].content


@dataclass(frozen=True, slots=True)
class Wordpieces:
    """A tokenized prompt: ``ids`` int64 [n ≤ max_tokens], special tokens included; ``total`` untruncated."""

    ids: npt.NDArray[np.int64]
    total: int


def open_tokenizer(path: Path) -> Tokenizer:
    """Open a tokenizer.json without the truncation and padding that it may ask for."""
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def tokenize(
    tokenizer: Tokenizer, text: str, max_tokens: int, begin: list[int], end: list[int]
) -> Wordpieces:
    """Split into wordpieces; a long prompt keeps its beginning and its end, where the question usually is.

    Past ``MAX_EXACT_CHARS`` the middle is not read and ``total`` is extrapolated from the two ends.
    """
    clean = text.encode(errors="replace").decode()
    half = MAX_EXACT_CHARS // 2
    if len(clean) <= MAX_EXACT_CHARS:
        pieces = tokenizer.encode(clean, add_special_tokens=False).ids
        total = len(pieces)
    else:
        head, tail = tokenizer.encode_batch([clean[:half], clean[-half:]], add_special_tokens=False)
        pieces = head.ids + tail.ids
        total = round(len(pieces) * len(clean) / MAX_EXACT_CHARS)
    room = max_tokens - len(begin) - len(end)
    if len(pieces) > room:
        pieces = pieces[: room - room // 2] + pieces[len(pieces) - room // 2 :]
    return Wordpieces(np.array([*begin, *pieces, *end], dtype=np.int64), total)
