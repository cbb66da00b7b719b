"""Widened models compute what they did before; GGUF weights come out under their Hugging Face names."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

pytest.importorskip("gguf", reason="needs the extra weir[cpu]")
pytest.importorskip("safetensors", reason="needs the extra weir[train]")

from tests import tiny_llama
from tests.tiny_llama_gguf import write_gguf
from weir.cli.models import models_app
from weir.models.gguf_weights import read_gguf
from weir.models.llama_folder import LlamaModel, read_folder
from weir.models.widening import Width, widen

IDS = [5, 290, 17, 17, 0, 133, 299]
WIDE = Width(hidden=64, intermediate=96, heads=20, kv_heads=5)
WIDE_OPTIONS = ["--hidden", "64", "--intermediate", "96", "--heads", "20", "--kv-heads", "5"]


@pytest.mark.parametrize(
    "made",
    [
        tiny_llama.model(),
        tiny_llama.model(biases=True, model_type="qwen2"),
        tiny_llama.model(head_norms=True, model_type="qwen3"),
    ],
    ids=["llama", "qwen2", "qwen3"],
)
def test_a_widened_model_gives_the_same_logits(made: LlamaModel) -> None:
    wide = widen(made, WIDE)
    assert wide.weights["model.layers.0.self_attn.q_proj.weight"].shape == (20 * tiny_llama.HEAD, 64)
    np.testing.assert_allclose(
        tiny_llama.logits(wide, IDS), tiny_llama.logits(made, IDS), rtol=1e-5, atol=1e-5
    )


def test_more_heads_for_each_key_value_head_give_the_same_logits() -> None:
    made = tiny_llama.model()
    wide = widen(made, Width(hidden=24, intermediate=40, heads=15, kv_heads=3))
    np.testing.assert_allclose(tiny_llama.logits(wide, IDS), tiny_llama.logits(made, IDS), rtol=1e-6)


@pytest.mark.parametrize(
    ("width", "said"),
    [
        (Width(16, 96, 20, 5), "hidden: 16 is less"),
        (Width(64, 8, 20, 5), "intermediate: 8 is less"),
        (Width(64, 96, 20, 2), "kv-heads: 2 is less"),
        (Width(64, 96, 5, 5), "heads for each key-value head: 1 is less"),
        (Width(64, 96, 21, 5), "do not part evenly"),
    ],
)
def test_a_width_that_cannot_hold_the_model_is_refused(width: Width, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        widen(tiny_llama.model(), width)


def test_another_architecture_is_not_widened() -> None:
    with pytest.raises(ValueError, match="'gpt2'"):
        widen(tiny_llama.model(model_type="gpt2"), WIDE)


def test_gguf_weights_are_those_of_the_folder(tmp_path: Path) -> None:
    made = tiny_llama.model()
    found = read_gguf(write_gguf(tmp_path / "tiny.gguf", made))
    assert {name: w.shape for name, w in found.weights.items()} == {
        name: w.shape for name, w in made.weights.items()
    }
    np.testing.assert_allclose(tiny_llama.logits(found, IDS), tiny_llama.logits(made, IDS), rtol=1e-6)


def test_a_gguf_of_another_architecture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'mamba'"):
        read_gguf(write_gguf(tmp_path / "tiny.gguf", tiny_llama.model(), architecture="mamba"))


def test_a_tensor_without_a_place_is_refused_by_name(tmp_path: Path) -> None:
    extra = {"rope_freqs.weight": np.ones(4, np.float32)}
    with pytest.raises(ValueError, match=r"rope_freqs\.weight"):
        read_gguf(write_gguf(tmp_path / "tiny.gguf", tiny_llama.model(), extra=extra))


def test_widen_writes_a_folder_from_a_folder(tmp_path: Path) -> None:
    made = tiny_llama.model()
    source = tiny_llama.write_folder(tmp_path / "narrow", made)
    result = CliRunner().invoke(
        models_app, ["widen", str(source), "--out", str(tmp_path / "wide"), *WIDE_OPTIONS]
    )
    assert result.exit_code == 0, result.output
    wide = read_folder(tmp_path / "wide")
    np.testing.assert_allclose(
        tiny_llama.logits(wide, IDS), tiny_llama.logits(made, IDS), rtol=1e-5, atol=1e-5
    )
    assert (tmp_path / "wide" / "tokenizer.json").read_bytes() == (source / "tokenizer.json").read_bytes()


def test_widen_writes_the_tokenizer_of_a_gguf_file(tmp_path: Path) -> None:
    source = write_gguf(tmp_path / "tiny.gguf", tiny_llama.model())
    result = CliRunner().invoke(
        models_app, ["widen", str(source), "--out", str(tmp_path / "wide"), *WIDE_OPTIONS]
    )
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "wide" / "tokenizer.json").read_bytes())["model"]["type"] == "BPE"


@pytest.mark.parametrize(
    ("model", "said"),
    [("absent", "No model 'absent'"), ("folder", "has no safetensors file"), ("file", "no GGUF file")],
)
def test_widen_says_why_a_model_cannot_be_used(tmp_path: Path, model: str, said: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "config.json").write_text("{}")
    (tmp_path / "file").write_bytes(b"GGML and more")
    given = model if model == "absent" else str(tmp_path / model)
    result = CliRunner().invoke(models_app, ["widen", given, "--out", str(tmp_path / "wide")])
    assert result.exit_code == 1
    assert said in result.output.replace("\n", " ")


def test_a_truncated_weights_file_is_refused(tmp_path: Path) -> None:
    source = tiny_llama.write_folder(tmp_path / "narrow", tiny_llama.model())
    weights = source / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(ValueError, match="is damaged"):
        read_folder(source)
