"""Another model's text in the verifier's tokens: every byte of it, and stable whatever follows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import llguidance
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import tiny_llama
from weir.engines.text.codec import Codec, load_codec
from weir.verifier.text_level.retokenize import Retokenizer
from weir.verifier.text_level.units import MAX_UNIT_TOKENS, closing, in_any_piece, in_whole_units

_WORDS = [
    "Hello",
    " world",
    ".",
    " The",
    " sea",
    " internationalization",
    "\n\n",
    " 3.14",
    "é",
    "你好",
    "。",
    "  ",
    "'t",
]
texts = st.one_of(st.text(max_size=20), st.lists(st.sampled_from(_WORDS), max_size=20).map("".join))


@pytest.fixture(scope="module", params=["embedded", "bytes"])
def codec(
    request: pytest.FixtureRequest, embedded_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Codec:
    if request.param == "embedded":
        return load_codec(embedded_model)
    folder = tmp_path_factory.mktemp("bytes")
    tokenizer = tiny_llama.tokenizer()
    tokenizer.add_special_tokens(["<end>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<end>"}))
    return load_codec(folder)


def spelled(codec: Codec, ids: Sequence[int]) -> bytes:
    return b"".join(map(codec.token_bytes, ids))


@cache
def vocabulary(codec: Codec) -> frozenset[bytes]:
    return frozenset(map(codec.token_bytes, range(codec.vocab_size)))


def told_well(codec: Codec, told: bytes, text: bytes) -> bool:
    """Whether all of ``text`` was told; up to some place before the first byte that the vocabulary lacks."""
    known = vocabulary(codec)
    lacking = any(bytes([byte]) not in known for byte in text)
    return text.startswith(told) if lacking else text == told


@pytest.fixture(scope="module")
def guide(codec: Codec) -> llguidance.LLTokenizer:
    return codec.llguidance_tokenizer()


@given(texts)
@settings(deadline=None)
def test_tokens_spell_the_text(codec: Codec, guide: llguidance.LLTokenizer, text: str) -> None:
    found = Retokenizer(guide).tokens(text.encode(), [], final=True)
    told = spelled(codec, found.ids)
    assert told_well(codec, told, text.encode())
    assert found.ends == tuple(len(spelled(codec, found.ids[: count + 1])) for count in range(len(found.ids)))


@given(texts, texts)
@settings(deadline=None)
def test_what_follows_does_not_change_the_tokens_given_out(
    guide: llguidance.LLTokenizer, text: str, more: str
) -> None:
    retokenizer = Retokenizer(guide)
    early = retokenizer.tokens(text.encode(), []).ids
    assert retokenizer.tokens((text + more).encode(), [], final=True).ids[: len(early)] == early


@given(texts, texts)
@settings(deadline=None)
def test_tokens_said_before_stay_and_the_rest_spells_on(
    codec: Codec, guide: llguidance.LLTokenizer, said: str, text: str
) -> None:
    ids = codec.encode(said)
    found = Retokenizer(guide).tokens(text.encode(), ids, final=True)
    assert told_well(codec, spelled(codec, found.ids), text.encode())


@given(st.text(min_size=1).filter(lambda text: len(text.encode()) > len(text)), st.data())
@settings(deadline=None)
def test_a_text_may_begin_within_a_character(
    codec: Codec, guide: llguidance.LLTokenizer, text: str, data: st.DataObject
) -> None:
    rest = text.encode()[data.draw(st.integers(0, len(text.encode()))) :]
    found = Retokenizer(guide).tokens(rest, [], final=True)
    assert told_well(codec, spelled(codec, found.ids), rest)


def test_text_that_reads_as_a_control_token_ends_the_drafts(embedded_model: Path) -> None:
    codec = load_codec(embedded_model)
    found = Retokenizer(codec.llguidance_tokenizer()).tokens(b"Hello.<|im_end|> More", [], final=True)
    assert spelled(codec, found.ids) == b"Hello."


def test_the_end_of_a_word_waits_for_what_follows(embedded_model: Path) -> None:
    codec = load_codec(embedded_model)
    found = Retokenizer(codec.llguidance_tokenizer()).tokens(b"The interna", [])
    assert spelled(codec, found.ids) == b"The"


@given(texts, st.lists(st.integers(1, 40)), st.integers(1, 20), st.booleans())
@settings(deadline=None)
def test_a_round_ends_with_a_unit_or_at_its_bound(
    guide: llguidance.LLTokenizer, text: str, ends: list[int], most: int, final: bool
) -> None:
    found = Retokenizer(guide).tokens(text.encode(), [], final=final)
    closes = closing(found, sorted(ends), final=final)
    assert all(1 <= count <= len(found.ids) for count in closes)
    whole, pieces = in_whole_units(found, closes, most), in_any_piece(found, closes, most)
    assert tuple(draft.id for draft in whole) == found.ids[: len(whole)]
    assert not whole or (whole[-1].ends_unit and len(whole) <= max(most, MAX_UNIT_TOKENS))
    assert len(pieces) in {0, most, *closes}
    assert len(pieces) <= most
    assert all(draft.ends_unit for draft in pieces)
    if final and found.ids:
        assert whole
        assert pieces
