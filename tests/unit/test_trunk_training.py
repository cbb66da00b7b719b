"""Fine-tuning tiny trunks with random weights: decoders and encoders, whole, frozen, by low-rank updates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

torch = pytest.importorskip("torch", reason="needs the extra weir[finetune]")
transformers = pytest.importorskip("transformers", reason="needs the extra weir[finetune]")
pytest.importorskip("peft", reason="needs the extra weir[finetune]")
pytest.importorskip("onnxscript", reason="needs the extra weir[finetune]")

import onnxruntime as ort  # noqa: E402

from tests import tiny_llama  # noqa: E402
from weir.router.classifier import Classifier, artifact  # noqa: E402
from weir.router.cli import router_app  # noqa: E402
from weir.router.training import dataset  # noqa: E402
from weir.router.training.trunk import precision  # noqa: E402
from weir.router.training.trunk.batches import labels_of, padded  # noqa: E402
from weir.router.training.trunk.finetune import Examples, FineTuning  # noqa: E402
from weir.router.training.trunk.network import Network, load_trunk  # noqa: E402
from weir.router.training.trunk.plan import Plan, Tuning  # noqa: E402
from weir.router.training.trunk.rows import prepare  # noqa: E402
from weir.router.training.trunk.torch_graph import to_onnx  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::Warning")
SAMPLE = Path(__file__).parent.parent / "data" / "routing_sample.jsonl"
SIZES = {"vocab_size": 300, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
CONFIGS = {
    "bert": lambda: transformers.BertConfig(**SIZES, intermediate_size=48),
    "modernbert": lambda: transformers.ModernBertConfig(
        **SIZES, intermediate_size=48, pad_token_id=0, bos_token_id=1, eos_token_id=2, cls_token_id=1
    ),
    "qwen3": lambda: transformers.Qwen3Config(
        **SIZES, intermediate_size=48, num_key_value_heads=2, head_dim=8, pad_token_id=None
    ),
    "gpt2": lambda: transformers.GPT2Config(
        vocab_size=300, n_embd=32, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=0
    ),
}


@pytest.fixture
def halves(tmp_path: Path) -> tuple[Path, Path]:
    """Two files of labeled prompts."""
    lines = SAMPLE.read_text(encoding="utf-8").splitlines(keepends=True)
    train, validation = tmp_path / "train.jsonl", tmp_path / "validation.jsonl"
    train.write_text("".join(lines[:160]))
    validation.write_text("".join(lines[160:]))
    return train, validation


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    return tiny_llama.write_folder(tmp_path / "llama", tiny_llama.model())


def _options(halves: tuple[Path, Path], trunk: Path, out: Path, *more: str) -> list[str]:
    train, validation = halves
    files = ["--data", str(train), "--validation", str(validation), "--trunk", str(trunk), "--out", str(out)]
    return ["train", *files, "--epochs", "1", "--max-tokens", "32", *more]


def _plan(halves: tuple[Path, Path], trunk: Path, freeze: int = 0, lora: int = 0) -> Plan:
    train, validation = (dataset.read(path) for path in halves)
    tuning = Tuning(max_tokens=32, epochs=1, freeze=freeze, lora=lora)
    return Plan(trunk, train, validation, tuning)


def _tuned(plan: Plan) -> Network:
    rows = prepare(plan)
    labels = labels_of(rows.train)
    checking = Examples(rows.pieces(rows.validation), labels_of(rows.validation, labels.names))
    return FineTuning(plan, Examples(rows.pieces(rows.train), labels), checking, lambda _: None).run().network


def test_low_rank_updates_make_an_artifact_and_a_master(
    halves: tuple[Path, Path], llama: Path, tmp_path: Path
) -> None:
    out, master = tmp_path / "out", tmp_path / "master"
    options = _options(halves, llama, out, "--lora", "4", "--precision", "int8", "--master", str(master))
    result = CliRunner().invoke(router_app, options)
    assert result.exit_code == 0, result.output
    metadata = artifact.verify(out)
    assert (metadata.model.kind, metadata.model.precision) == ("decoder", "int8")
    assert {"all", "fp32: all"} <= metadata.metrics.keys()
    assert metadata.conformal
    assert 0 < Classifier.load(out).assess(["What is 2 + 2?"])[0].complexity < 1
    again = ["export", "--artifact", str(master), "--out", str(tmp_path / "small"), "--precision", "int4"]
    assert CliRunner().invoke(router_app, again).exit_code == 0
    assert Classifier.load(tmp_path / "small").assess(["What is 2 + 2?"])


def test_an_encoder_is_trained_whole_and_kept_beside_its_graph_where_it_is_large(
    halves: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "EXTERNAL_BYTES", 1)
    folder = tmp_path / "bert"
    transformers.AutoModel.from_config(CONFIGS["bert"]()).save_pretrained(folder)
    tiny_llama.tokenizer().save(str(folder / "tokenizer.json"))
    result = CliRunner().invoke(router_app, _options(halves, folder, tmp_path / "out", "--precision", "int8"))
    assert result.exit_code == 0, result.output
    metadata = artifact.verify(tmp_path / "out")
    assert metadata.model.kind == "encoder"
    assert artifact.MODEL_DATA in metadata.files
    assert Classifier.load(tmp_path / "out").assess(["What is 2 + 2?"])


def test_float32_is_written_to_both_folders(halves: tuple[Path, Path], llama: Path, tmp_path: Path) -> None:
    out, master = tmp_path / "out", tmp_path / "master"
    options = _options(halves, llama, out, "--precision", "fp32", "--master", str(master))
    assert CliRunner().invoke(router_app, options).exit_code == 0
    assert artifact.verify(out).revision == artifact.verify(master).revision


def test_equal_seeds_give_equal_networks(halves: tuple[Path, Path], llama: Path) -> None:
    one, other = (_tuned(_plan(halves, llama, lora=4)) for _ in range(2))
    for mine, theirs in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("lora", [0, 4])
def test_frozen_layers_stay_and_those_above_move(halves: tuple[Path, Path], llama: Path, lora: int) -> None:
    before, after = load_trunk(llama).state_dict(), _tuned(_plan(halves, llama, freeze=1, lora=lora)).trunk
    assert len(after.layers) == tiny_llama.LAYERS
    moved = {name for name, value in after.state_dict().items() if not torch.equal(value, before[name])}
    assert moved
    assert not any(name.startswith(("layers.0.", "embed_tokens")) for name in moved)
    assert any(name.startswith("layers.1.") for name in moved)


def test_kept_layers_are_the_first(llama: Path) -> None:
    assert len(load_trunk(llama, 1).layers) == 1


@pytest.mark.parametrize("kind", [*CONFIGS])
def test_any_architecture_is_exported_as_it_computes(kind: str) -> None:
    torch.manual_seed(0)
    network = Network(transformers.AutoModel.from_config(CONFIGS[kind]()).eval(), "auto", 2).eval()
    model = to_onnx(network, 32)
    ids, mask = padded([np.arange(3, 20), np.arange(50, 57), np.arange(100, 131)])
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run(["embedding"], {"input_ids": ids, "attention_mask": mask})[0]
    with torch.inference_mode():
        expected = network.embedding(torch.from_numpy(ids), torch.from_numpy(mask)).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--freeze", "2"], "leaves none to train"),
        (["--layers", "3"], "has 2 layers"),
        (["--pooling", "max"], "none of auto, last, mean, cls"),
        (["--precision", "int2"], "none of fp32"),
    ],
)
def test_options_that_do_not_fit_the_trunk_are_refused(
    halves: tuple[Path, Path], llama: Path, tmp_path: Path, more: list[str], said: str
) -> None:
    result = CliRunner().invoke(router_app, _options(halves, llama, tmp_path / "out", *more))
    assert result.exit_code == 1
    assert said in result.output
    assert not (tmp_path / "out").exists()


def test_too_few_rows_to_calibrate_are_said(halves: tuple[Path, Path], llama: Path, tmp_path: Path) -> None:
    lines = halves[0].read_text().splitlines(keepends=True)
    halves[0].write_text("".join(lines[:20]))
    result = CliRunner().invoke(router_app, _options(halves, llama, tmp_path / "out"))
    assert result.exit_code == 1
    assert "at least 10 of each are needed" in result.output


@pytest.mark.parametrize(
    ("name", "said"), [("tokenizer.json", "no tokenizer.json"), ("model.safetensors", "no safetensors file")]
)
def test_a_folder_that_lacks_a_file_is_refused(
    halves: tuple[Path, Path], llama: Path, tmp_path: Path, name: str, said: str
) -> None:
    (llama / name).unlink()
    result = CliRunner().invoke(router_app, _options(halves, llama, tmp_path / "out"))
    assert result.exit_code == 1
    assert said in result.output


def test_validation_rows_are_asked_for(halves: tuple[Path, Path], llama: Path, tmp_path: Path) -> None:
    options = ["--data", str(halves[0]), "--trunk", str(llama), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(router_app, ["train", *options])
    assert result.exit_code == 1
    assert "--validation" in result.output
