"""Stand-ins made from GGUF files: the same weights between zeros, and noise that can be had again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

gguf = pytest.importorskip("gguf", reason="needs the extra weir[cpu]")
pytest.importorskip("safetensors", reason="needs the extra weir[train]")

from tests import tiny_llama  # noqa: E402
from tests.tiny_llama_gguf import write_gguf  # noqa: E402
from weir.cli.models import models_app  # noqa: E402
from weir.cli.verification.targets import WIDTH, build_targets  # noqa: E402
from weir.engines.text.codec import load_codec  # noqa: E402
from weir.engines.text.gguf_metadata import is_stand_in, read_metadata  # noqa: E402
from weir.models.gguf_stand_in import Noise, write_stand_in  # noqa: E402
from weir.models.gguf_weights import read_gguf  # noqa: E402
from weir.models.llama_folder import LlamaModel  # noqa: E402
from weir.models.widening import Width, widen  # noqa: E402

Kind = gguf.GGMLQuantizationType
IDS = [5, 290, 17, 17, 0, 133, 299]
WIDE = Width(hidden=128, intermediate=160, heads=16, kv_heads=4)
OPTIONS = ["--hidden", "128", "--intermediate", "160", "--heads", "16", "--kv-heads", "4"]
KINDS = [Kind.Q4_0, Kind.Q4_1, Kind.Q8_0, Kind.F16, Kind.F32]


def _model() -> LlamaModel:
    """A model whose sizes are multiples of a block of 32 weights."""
    return tiny_llama.model(hidden_size=64, intermediate_size=96, head_dim=32)


def _source(folder: Path, kind: Any = Kind.Q4_1) -> Path:
    return write_gguf(folder / "small.gguf", _model(), kind=kind)


def _weights(path: Path) -> dict[str, np.ndarray]:
    return {name: np.asarray(weight) for name, weight in read_gguf(path).weights.items()}


@pytest.mark.parametrize("kind", KINDS, ids=[kind.name for kind in KINDS])
def test_widened_blocks_are_the_widened_weights_exactly(tmp_path: Path, kind: Any) -> None:
    source, out = _source(tmp_path, kind), tmp_path / "wide.gguf"
    count = write_stand_in(source, out, WIDE)
    expected, found = widen(read_gguf(source), WIDE), read_gguf(out)
    assert count == sum(weight.size for weight in found.weights.values())
    for name, weight in expected.weights.items():
        np.testing.assert_array_equal(found.weights[name], weight, err_msg=name)
    np.testing.assert_allclose(found.config["rms_norm_eps"], expected.config["rms_norm_eps"], rtol=1e-6)


def test_a_widened_file_gives_the_same_logits(tmp_path: Path) -> None:
    source, out = _source(tmp_path), tmp_path / "wide.gguf"
    write_stand_in(source, out, WIDE)
    narrow, wide = read_gguf(source), read_gguf(out)
    np.testing.assert_allclose(
        tiny_llama.logits(wide, IDS), tiny_llama.logits(narrow, IDS), rtol=1e-5, atol=1e-5
    )


def test_the_tokenizer_stays_and_the_file_says_what_it_is(tmp_path: Path) -> None:
    source, out = _source(tmp_path), tmp_path / "wide.gguf"
    write_stand_in(source, out, WIDE, Noise(0.25))
    assert load_codec(out).sha256 == load_codec(source).sha256
    assert is_stand_in(out)
    assert not is_stand_in(source)
    assert "Stand-in" in read_metadata(out)["general.name"]
    assert read_metadata(out)["weir.noise"] == 0.25


def test_without_noise_and_at_its_own_width_a_model_stays_as_it_is(tmp_path: Path) -> None:
    source, out = _source(tmp_path), tmp_path / "same.gguf"
    write_stand_in(source, out)
    before, after = gguf.GGUFReader(source).tensors, gguf.GGUFReader(out).tensors
    assert [tensor.name for tensor in before] == [tensor.name for tensor in after]
    assert all(a.data.tobytes() == b.data.tobytes() for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("kind", KINDS, ids=[kind.name for kind in KINDS])
def test_noise_moves_matrices_by_its_level_and_leaves_words_and_norms(tmp_path: Path, kind: Any) -> None:
    source, out = _source(tmp_path, kind), tmp_path / "noisy.gguf"
    write_stand_in(source, out, noise=Noise(0.1))
    before, after = _weights(source), _weights(out)
    for name, weight in before.items():
        if "_proj" in name:
            moved = np.abs(after[name] - weight).std() / np.abs(weight).std()
            assert 0.02 < moved < 0.3, name
        else:
            np.testing.assert_array_equal(after[name], weight, err_msg=name)


def test_noise_is_the_same_for_a_seed_and_another_for_another(tmp_path: Path) -> None:
    source = _source(tmp_path)
    files = [tmp_path / f"{index}.gguf" for index in range(3)]
    for file, seed in zip(files, (7, 7, 8), strict=True):
        write_stand_in(source, file, noise=Noise(0.1, seed))
    first, again, other = (file.read_bytes() for file in files)
    assert first == again
    assert first != other


def test_noise_before_widening_is_noise_while_widening(tmp_path: Path) -> None:
    source, noise = _source(tmp_path), Noise(0.1, 3)
    write_stand_in(source, tmp_path / "noisy.gguf", noise=noise)
    write_stand_in(tmp_path / "noisy.gguf", tmp_path / "one.gguf", WIDE)
    write_stand_in(source, tmp_path / "two.gguf", WIDE, noise)
    one, two = _weights(tmp_path / "one.gguf"), _weights(tmp_path / "two.gguf")
    for name, weight in one.items():
        np.testing.assert_array_equal(two[name], weight, err_msg=name)


@pytest.mark.parametrize(
    ("kind", "width", "said"),
    [
        (Kind.Q5_0, WIDE, "type Q5_0; known are Q4_0, Q4_1, Q8_0, F16, F32"),
        (Kind.Q8_0, Width(100, 160, 16, 4), "hidden: 100 is no multiple of 32"),
        (Kind.Q8_0, Width(128, 100, 16, 4), "intermediate: 100 is no multiple of 32"),
        (Kind.Q8_0, Width(32, 160, 16, 4), "hidden: 32 is less"),
    ],
)
def test_what_cannot_be_widened_is_refused(tmp_path: Path, kind: Any, width: Width, said: str) -> None:
    source, out = _source(tmp_path, kind), tmp_path / "wide.gguf"
    with pytest.raises(ValueError, match=said):
        write_stand_in(source, out, width)
    assert [path.name for path in tmp_path.iterdir()] == ["small.gguf"]


def test_a_head_smaller_than_a_block_is_refused(tmp_path: Path) -> None:
    made = tiny_llama.model(hidden_size=64, intermediate_size=96, head_dim=16)
    source = write_gguf(tmp_path / "small.gguf", made, kind=Kind.Q8_0)
    with pytest.raises(ValueError, match="size of a head: 16 is no multiple of 32"):
        write_stand_in(source, tmp_path / "wide.gguf", WIDE)


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    source = write_gguf(tmp_path / "small.gguf", _model(), architecture="mamba")
    with pytest.raises(ValueError, match="'mamba'"):
        write_stand_in(source, tmp_path / "wide.gguf", WIDE)


def test_a_file_is_not_made_into_itself(tmp_path: Path) -> None:
    source = _source(tmp_path)
    with pytest.raises(ValueError, match="the one to read"):
        write_stand_in(source, source, WIDE)


def test_widen_writes_a_gguf_file_where_out_is_one(tmp_path: Path) -> None:
    source, out = _source(tmp_path), tmp_path / "wide.gguf"
    result = CliRunner().invoke(models_app, ["widen", str(source), "--out", str(out), *OPTIONS])
    assert result.exit_code == 0, result.output
    assert read_gguf(out).config["hidden_size"] == 128


def test_blur_keeps_the_width(tmp_path: Path) -> None:
    source, out = _source(tmp_path), tmp_path / "noisy.gguf"
    result = CliRunner().invoke(models_app, ["blur", str(source), "--out", str(out), "--noise", "0.1"])
    assert result.exit_code == 0, result.output
    assert read_gguf(out).config["hidden_size"] == 64
    assert is_stand_in(out)


def test_noise_wants_a_gguf_file_to_be_written(tmp_path: Path) -> None:
    arguments = ["widen", str(_source(tmp_path)), "--out", str(tmp_path / "wide"), "--noise", "0.1"]
    result = CliRunner().invoke(models_app, [*arguments, *OPTIONS])
    assert result.exit_code == 2
    assert "let --out end in .gguf" in " ".join(result.output.split())


def test_a_gguf_file_is_not_made_from_a_folder(tmp_path: Path) -> None:
    source = tiny_llama.write_folder(tmp_path / "folder", _model())
    result = CliRunner().invoke(models_app, ["blur", str(source), "--out", "x.gguf", "--noise", "0.1"])
    assert result.exit_code == 1
    assert "not from a folder" in " ".join(result.output.split())


async def test_targets_of_the_benchmark_are_built_once(tmp_path: Path) -> None:
    drafter, folder = _source(tmp_path), tmp_path / "targets"
    plain, noisy = await build_targets(drafter, folder, (0.0, 0.1))
    written = plain.stat().st_mtime_ns
    assert read_gguf(plain).config["hidden_size"] == WIDTH.hidden
    assert read_metadata(noisy)["weir.noise"] == pytest.approx(0.1)
    assert await build_targets(drafter, folder, (0.0, 0.1)) == [plain, noisy]
    assert plain.stat().st_mtime_ns == written
