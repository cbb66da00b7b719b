"""The codec of local models: tokenizer, chat template and llguidance's view of the vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import llguidance
from tokenizers import Tokenizer

from weir.engines.base import ChatMessage
from weir.engines.text import folder_tokenizer, gguf_tokenizer
from weir.engines.text.chat_template import ChatTemplate
from weir.engines.text.gguf_metadata import read_metadata
from weir.engines.text.vocabulary import Vocabulary


class Codec:
    """Implements ``weir.engines.base.TextCodec``. Built by ``load_codec``; safe to use from threads."""

    def __init__(
        self, tokenizer: Tokenizer, vocabulary: Vocabulary, template: str, context: int | None
    ) -> None:
        self._tokenizer = tokenizer
        self._vocabulary = vocabulary
        self._template = ChatTemplate(template, bos=vocabulary.bos, eos=vocabulary.eos)
        self._sha256 = vocabulary.sha256()
        self._guide: llguidance.LLTokenizer | None = None
        self.max_context = context

    @property
    def sha256(self) -> str:
        """Hash over vocabulary and merges."""
        return self._sha256

    @property
    def vocab_size(self) -> int:
        """Number of ids."""
        return len(self._vocabulary.tokens)

    @property
    def stop_ids(self) -> frozenset[int]:
        """Ids that end an answer."""
        return self._vocabulary.stop_ids

    @property
    def spells_leading_space(self) -> bool:
        """Whether the first token of a text spells a space that the text has not (SentencePiece)."""
        return not self._vocabulary.byte_level

    def render_chat(self, messages: Sequence[ChatMessage]) -> str:
        """Apply the chat template alone."""
        return self._template.render(messages)

    def encode_chat(self, messages: Sequence[ChatMessage]) -> list[int]:
        """Apply the chat template and tokenize; a final assistant turn is left open to be continued."""
        return self.encode(self.render_chat(messages))

    def encode(self, text: str) -> list[int]:
        """Tokenize plain text, adding no special tokens."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def token_bytes(self, token_id: int) -> bytes:
        """Return the bytes that a token stands for; empty for special tokens."""
        return self._vocabulary.token_bytes(token_id)

    def llguidance_tokenizer(self) -> llguidance.LLTokenizer:
        """Return the ``llguidance.LLTokenizer`` over the same vocabulary; built once, on first use."""
        if self._guide is None:
            self._guide = llguidance.LLTokenizer(
                self._tokenizer.to_str(), n_vocab=self.vocab_size, eos_token=sorted(self.stop_ids)
            )
        return self._guide


def load_codec(path: Path) -> Codec:
    """Load the codec of a GGUF file or of a folder with ``tokenizer.json``.

    Raises:
        ValueError: the tokenizer is missing, damaged or of a kind not known.
    """
    if path.is_dir():
        tokenizer, vocabulary, template = folder_tokenizer.load(path)
        return Codec(tokenizer, vocabulary, template, folder_tokenizer.context_length(path))
    metadata = read_metadata(path)
    tokenizer, vocabulary = gguf_tokenizer.build(metadata)
    context = metadata.get(f"{metadata.get('general.architecture')}.context_length")
    return Codec(tokenizer, vocabulary, metadata.get("tokenizer.chat_template", ""), context)
