"""What a token stands for, byte for byte, and the hash that tells whether two vocabularies are the same."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")
SPACE = "\u2581"

# Names of control tokens that end a turn in the model families in use, beside the declared end-of-sequence.
END_NAMES = frozenset(
    {
        "<|im_end|>",
        "<|endoftext|>",
        "<|eot_id|>",
        "<|eom_id|>",
        "<|end_of_text|>",
        "<|end|>",
        "<end_of_turn>",
        "</s>",
    }
)


@cache
def byte_alphabet() -> Mapping[str, int]:
    """Return GPT-2's table from printable character to byte (Radford et al., ``bytes_to_unicode``)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in set(printable)]
    table = {chr(byte): byte for byte in printable}
    return table | {chr(256 + index): byte for index, byte in enumerate(hidden)}


@dataclass(frozen=True)
class Vocabulary:
    """Tokens by id, and how they spell bytes.

    ``byte_level``: GPT-2's alphabet; otherwise SentencePiece's (``▁`` for a space, ``<0xAB>`` for a byte).
    ``control`` ids stand for no text; ``literal`` ids are spelled as they are.
    """

    tokens: tuple[str, ...]
    merges: tuple[str, ...]
    byte_level: bool
    control: frozenset[int]
    literal: frozenset[int] = frozenset()
    stop_ids: frozenset[int] = frozenset()
    bos: str = ""
    eos: str = ""
    _bytes: dict[int, bytes] = field(default_factory=dict, compare=False, repr=False)

    def token_bytes(self, token_id: int) -> bytes:
        """Return the bytes of a token; empty for control tokens and ids outside the vocabulary."""
        known = self._bytes.get(token_id)
        if known is None:
            known = self._bytes[token_id] = self._spell(token_id)
        return known

    def _spell(self, token_id: int) -> bytes:
        if token_id in self.control or not 0 <= token_id < len(self.tokens):
            return b""
        token = self.tokens[token_id]
        if token_id in self.literal:
            return token.encode()
        if self.byte_level:
            alphabet = byte_alphabet()
            if all(char in alphabet for char in token):
                return bytes(alphabet[char] for char in token)
            return token.encode()
        byte = _BYTE_TOKEN.fullmatch(token)
        return bytes([int(byte[1], 16)]) if byte else token.replace(SPACE, " ").encode()

    def sha256(self) -> str:
        """Hash the tokens in the order of their ids, then the merges where they decide (byte-level BPE)."""
        digest = hashlib.sha256()
        merges: Iterable[str] = self.merges if self.byte_level else ()
        for part in (self.tokens, merges):
            digest.update("\0".join(part).encode("utf-8", "surrogatepass"))
            digest.update(b"\1")
        return digest.hexdigest()


def end_ids(tokens: Iterable[str], control: frozenset[int], declared: Iterable[int]) -> frozenset[int]:
    """Return the ids that end an answer: those declared and control tokens with a well-known name."""
    named = {index for index, token in enumerate(tokens) if index in control and token in END_NAMES}
    return frozenset(named) | frozenset(declared)
