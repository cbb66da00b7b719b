"""A Hugging Face tokenizer built from a GGUF file's metadata."""

from __future__ import annotations

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from weir.engines.text.gguf_metadata import Metadata
from weir.engines.text.vocabulary import SPACE, Vocabulary, end_ids

_CONTROL, _USER_DEFINED, _UNUSED = 3, 4, 5
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# Splits before the merges, by ``tokenizer.ggml.pre`` (llama.cpp, src/llama-vocab.cpp). True: single digits.
_SPLITS: dict[str, tuple[bool, str]] = {
    **dict.fromkeys(["gpt-2", "gpt2", "phi-2", "olmo", "mpt", "jais"], (False, _GPT2)),
    **dict.fromkeys(["smollm", "starcoder", "refact", "command-r", "codeshell", "exaone"], (True, _GPT2)),
    **dict.fromkeys(["llama-bpe", "llama3", "llama-v3", "falcon3", "smaug-bpe", "dbrx"], (False, _LLAMA3)),
    **dict.fromkeys(["qwen2", "stablelm2", "deepseek-r1-qwen"], (False, _LLAMA3.replace("{1,3}", ""))),
}


def build(metadata: Metadata) -> tuple[Tokenizer, Vocabulary]:
    """Build the tokenizer and its vocabulary.

    Raises:
        ValueError: a tokenizer kind that is not known here; a folder with ``tokenizer.json`` serves then.
    """
    kind = metadata.get("tokenizer.ggml.model")
    if kind == "gpt2":
        return _byte_level(metadata)
    if kind == "llama":
        return _sentencepiece(metadata)
    raise ValueError(f"tokenizer kind {kind!r} is not supported; use a folder with tokenizer.json")


def _vocabulary(metadata: Metadata, merges: list[str], *, byte_level: bool) -> Vocabulary:
    tokens: list[str] = metadata["tokenizer.ggml.tokens"]
    types: list[int] = metadata.get("tokenizer.ggml.token_type") or [1] * len(tokens)
    control = frozenset(i for i, kind in enumerate(types) if kind in {_CONTROL, _UNUSED})
    literal = frozenset(i for i, kind in enumerate(types) if kind == _USER_DEFINED)
    keys = ("eos_token_id", "eot_token_id", "eom_token_id")
    declared = [metadata[f"tokenizer.ggml.{key}"] for key in keys if f"tokenizer.ggml.{key}" in metadata]

    def named(key: str) -> str:
        index = metadata.get(f"tokenizer.ggml.{key}_token_id")
        return tokens[index] if index is not None and index < len(tokens) else ""

    return Vocabulary(
        tokens=tuple(tokens),
        merges=tuple(merges),
        byte_level=byte_level,
        control=control,
        literal=literal,
        stop_ids=end_ids(tokens, control, declared),
        bos=named("bos"),
        eos=named("eos"),
    )


def _add_special(tokenizer: Tokenizer, vocabulary: Vocabulary) -> None:
    tokenizer.add_special_tokens(
        [AddedToken(vocabulary.tokens[i], special=True, normalized=False) for i in sorted(vocabulary.control)]
    )
    tokenizer.add_tokens(
        [AddedToken(vocabulary.tokens[i], normalized=False) for i in sorted(vocabulary.literal)]
    )


def _byte_level(metadata: Metadata) -> tuple[Tokenizer, Vocabulary]:
    pre = metadata.get("tokenizer.ggml.pre", "gpt-2")
    if pre not in _SPLITS:
        raise ValueError(f"pre-tokenizer {pre!r} is not supported; use a folder with tokenizer.json")
    vocabulary = _vocabulary(metadata, metadata["tokenizer.ggml.merges"], byte_level=True)
    ids = {token: index for index, token in enumerate(vocabulary.tokens)}
    pairs = [(left, right) for left, _, right in (merge.partition(" ") for merge in vocabulary.merges)]
    # Llama 3's vocabulary holds words that its merges do not reach.
    tokenizer = Tokenizer(models.BPE(ids, pairs, ignore_merges=pre.startswith(("llama", "falcon3"))))
    digits, pattern = _SPLITS[pre]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            *([pre_tokenizers.Digits(individual_digits=True)] if digits else []),
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    _add_special(tokenizer, vocabulary)
    return tokenizer, vocabulary


def _sentencepiece(metadata: Metadata) -> tuple[Tokenizer, Vocabulary]:
    vocabulary = _vocabulary(metadata, [], byte_level=False)
    ids = {token: index for index, token in enumerate(vocabulary.tokens)}
    pairs = _merges_by_score(ids, metadata["tokenizer.ggml.scores"])
    unknown = metadata.get("tokenizer.ggml.unknown_token_id", 0)
    tokenizer = Tokenizer(
        models.BPE(ids, pairs, unk_token=vocabulary.tokens[unknown], fuse_unk=True, byte_fallback=True)
    )
    spaces = normalizers.Replace(" ", SPACE)
    prefix = metadata.get("tokenizer.ggml.add_space_prefix", True)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), spaces] if prefix else [spaces])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    _add_special(tokenizer, vocabulary)
    return tokenizer, vocabulary


def _merges_by_score(ids: dict[str, int], scores: list[float]) -> list[tuple[str, str]]:
    """Recover the merges that a SentencePiece vocabulary implies: splits in two known pieces, best first."""
    found = []
    for token, index in ids.items():
        splits = ((token[:at], token[at:]) for at in range(1, len(token)))
        known = [pair for pair in splits if pair[0] in ids and pair[1] in ids]
        known.sort(key=lambda pair: (ids[pair[0]], ids[pair[1]]))
        found += [(scores[index], pair) for pair in known]
    found.sort(key=lambda entry: -entry[0])
    return [pair for _, pair in found]
