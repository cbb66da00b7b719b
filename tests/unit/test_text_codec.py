"""Tokenizers and chat templates: equal to the runtime's own, however they were loaded."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import gguf
import llguidance
import openvino_genai
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from weir.common.errors import ErrorCode, WeirError
from weir.engines.base import ChatMessage
from weir.engines.text.chat_template import ChatTemplate
from weir.engines.text.codec import Codec, load_codec

PROMPTS = json.loads((Path(__file__).parents[1] / "data" / "prompts_sample.json").read_text(encoding="utf-8"))
ODD = [
    "héllo wörld",
    "日本語のテキスト 123",
    "👩‍👩‍👧‍👦 and 🇩🇪",
    "a\n\n\n b   c\t\td",
    " leading and trailing ",
    "١٢٣ ½ ² x²",
    "don't I'LL we'Ve",
    "e\u0301 \u00a0 \u3000 \u200b",
    "नमस्ते दुनिया",
    "\x00\x01",
    "a" * 300,
    "x=1;\tfor(int i=0;i<10;i++){}",
]


@pytest.fixture(scope="module")
def codec(embedded_model: Path) -> Codec:
    return load_codec(embedded_model)


@pytest.fixture(scope="module")
def runtime(embedded_model: Path) -> Any:
    """OpenVINO GenAI's own tokenizer of the same file."""
    return openvino_genai.Tokenizer(str(embedded_model))


def test_ids_are_those_of_the_runtime(codec: Codec, runtime: Any) -> None:
    for text in [*PROMPTS, *ODD]:
        expected = [int(i) for i in runtime.encode(text, add_special_tokens=False).input_ids.data[0]]
        assert codec.encode(text) == expected, text


@pytest.mark.parametrize("system", [None, "Answer briefly."])
def test_the_chat_template_renders_as_the_runtime_does(
    codec: Codec, runtime: Any, system: str | None
) -> None:
    for text in [*PROMPTS[:10], *ODD]:
        turns = [ChatMessage("user", text), ChatMessage("assistant", "Well."), ChatMessage("user", "Go on.")]
        turns = [ChatMessage("system", system), *turns] if system else turns
        history = [{"role": turn.role, "content": turn.content} for turn in turns]
        assert codec.render_chat(turns) == runtime.apply_chat_template(history, True)


def test_token_bytes_spell_the_text(codec: Codec) -> None:
    for text in [*PROMPTS, *ODD]:
        assert b"".join(map(codec.token_bytes, codec.encode(text))) == text.encode()


def test_control_tokens_stand_for_no_text_and_end_answers(codec: Codec) -> None:
    [end] = codec.encode("<|im_end|>")
    assert codec.token_bytes(end) == b""
    assert end in codec.stop_ids
    assert codec.token_bytes(10**9) == b""


def test_an_assistant_turn_is_left_open_with_its_last_space(codec: Codec) -> None:
    text = codec.render_chat([ChatMessage("user", "Hi"), ChatMessage("assistant", "Once ")])
    assert text.endswith("<|im_start|>assistant\nOnce ")


def test_the_vocabulary_is_read_fast(embedded_model: Path) -> None:
    start = time.process_time()
    load_codec(embedded_model)
    assert time.process_time() - start < 1.5


def test_llguidance_sees_the_same_vocabulary(codec: Codec) -> None:
    guide = codec.llguidance_tokenizer()
    assert guide.vocab_size == codec.vocab_size
    assert guide.tokenize_str("Hello there") == codec.encode("Hello there")
    assert isinstance(guide, llguidance.LLTokenizer)


def test_a_folder_and_a_gguf_file_of_one_tokenizer_have_one_hash(tmp_path: Path) -> None:
    tokens = ["<end>", *map(chr, range(97, 123)), "ab", "abc"]
    merges = ["a b", "ab c"]
    _write_gguf(tmp_path / "m.gguf", "gpt2", tokens, merges=merges, control={0})
    built = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, [("a", "b"), ("ab", "c")]))
    built.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    built.decoder = decoders.ByteLevel()
    built.add_special_tokens(["<end>"])
    folder = tmp_path / "folder"
    folder.mkdir()
    built.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"eos_token": "<end>", "chat_template": "{{ 1 }}"})
    )
    (folder / "config.json").write_text('{"max_position_embeddings": 99}')
    from_file, from_folder = load_codec(tmp_path / "m.gguf"), load_codec(folder)
    assert from_file.sha256 == from_folder.sha256
    assert from_file.encode("abcab") == from_folder.encode("abcab")
    assert from_file.stop_ids == from_folder.stop_ids == {0}
    assert from_folder.max_context == 99
    assert from_folder.render_chat([ChatMessage("user", "x")]) == "1"


def test_a_sentencepiece_vocabulary_spells_spaces_and_bytes(tmp_path: Path) -> None:
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "h", "i", "hi", "▁hi"]
    scores = [0.0] * 259 + [-5.0, -6.0, -7.0, -1.0, -2.0]
    _write_gguf(tmp_path / "sp.gguf", "llama", pieces, scores=scores, control={0, 1, 2})
    codec = load_codec(tmp_path / "sp.gguf")
    ids = codec.encode("hi hié")
    assert [codec.token_bytes(i) for i in ids] == [b" hi", b" hi", b"\xc3", b"\xa9"]
    assert codec.spells_leading_space
    assert codec.stop_ids == {2}


@pytest.mark.parametrize(
    "content", [b"", b"not a model", b"GGUF\x03\0\0\0" + b"\xff" * 40], ids=["empty", "text", "torn"]
)
def test_a_damaged_file_is_told_apart(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(content)
    with pytest.raises(ValueError):
        load_codec(path)


def test_an_unknown_pre_tokenizer_is_refused_not_guessed(tmp_path: Path) -> None:
    _write_gguf(tmp_path / "m.gguf", "gpt2", ["a", "b"], merges=["a b"], control=set(), pre="from-the-future")
    with pytest.raises(ValueError, match="from-the-future"):
        load_codec(tmp_path / "m.gguf")


def test_a_template_that_refuses_is_a_bad_prompt() -> None:
    template = ChatTemplate("{{ raise_exception('roles must alternate') }}", bos="", eos="")
    with pytest.raises(WeirError) as raised:
        template.render([ChatMessage("user", "x")])
    assert raised.value.code is ErrorCode.INVALID_PROMPT
    assert "roles must alternate" in raised.value.hint


def test_a_template_runs_in_a_sandbox() -> None:
    template = ChatTemplate("{{ messages.__class__.__mro__[1].__subclasses__() }}", bos="", eos="")
    with pytest.raises(WeirError):
        template.render([ChatMessage("user", "x")])


def test_without_a_template_the_turns_are_joined() -> None:
    turns = [ChatMessage("user", "one"), ChatMessage("user", "two")]
    assert ChatTemplate("", bos="", eos="").render(turns) == "one\ntwo"


def _write_gguf(
    path: Path,
    model: str,
    tokens: list[str],
    *,
    control: set[int],
    merges: list[str] | None = None,
    scores: list[float] | None = None,
    pre: str = "gpt-2",
) -> None:
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_tokenizer_model(model)
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types(
        [3 if i in control else 6 if t.startswith("<0x") else 1 for i, t in enumerate(tokens)]
    )
    if merges is not None:
        writer.add_token_merges(merges)
    if scores is not None:
        writer.add_token_scores(scores)
    writer.add_eos_token_id(max(control, default=0))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
