"""Training from prompts to an artifact, over a tiny encoder with random weights."""

from __future__ import annotations

import json
import shutil
from math import erf
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from typer.testing import CliRunner

from weir.router.classifier import Classifier, artifact
from weir.router.classifier.encoder import Encoder
from weir.router.cli import router_app

numpy_format = pytest.importorskip("safetensors.numpy", reason="needs the extra weir[train]")
pytest.importorskip("onnx_ir", reason="needs the extra weir[train]")
pytest.importorskip("skl2onnx", reason="needs the extra weir[train]")
pytest.importorskip("sklearn", reason="needs the extra weir[train]")

SAMPLE = Path(__file__).parent.parent / "data" / "routing_sample.jsonl"
SCHEMES = ("int8-tensor", "int8-channel", "int8-channel-reduced", "int8-mixed", "int8-block", "int8-static")
HIDDEN, LAYERS, HEADS, WORDS = 32, 2, 4, 30_522
Array = npt.NDArray[np.float64]


def _weights() -> dict[str, npt.NDArray[np.float32]]:
    generator = np.random.default_rng(0)
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (WORDS, HIDDEN),
        "embeddings.position_embeddings.weight": (512, HIDDEN),
        "embeddings.token_type_embeddings.weight": (2, HIDDEN),
    }
    norms = ["embeddings"]
    for layer in (f"encoder.layer.{i}" for i in range(LAYERS)):
        norms += [f"{layer}.attention.output", f"{layer}.output"]
        dense = {f"attention.self.{part}": (HIDDEN, HIDDEN) for part in ("query", "key", "value")}
        dense |= {"attention.output.dense": (HIDDEN, HIDDEN)}
        dense |= {"intermediate.dense": (4 * HIDDEN, HIDDEN), "output.dense": (HIDDEN, 4 * HIDDEN)}
        for name, shape in dense.items():
            shapes |= {f"{layer}.{name}.weight": shape, f"{layer}.{name}.bias": shape[:1]}
    for norm in norms:
        shapes |= {f"{norm}.LayerNorm.weight": (HIDDEN,), f"{norm}.LayerNorm.bias": (HIDDEN,)}
    return {name: generator.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    config = {
        "layer_norm_eps": 1e-12,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "hidden_size": HIDDEN,
    }
    (folder / "config.json").write_text(json.dumps(config))
    numpy_format.save_file(_weights(), folder / "model.safetensors")
    shutil.copy(artifact.PACKAGED / artifact.TOKENIZER, folder)
    return folder


def _run(*arguments: object) -> str:
    result = CliRunner().invoke(router_app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.output


def _train(encoder: Path, out: Path, *more: object) -> Classifier:
    _run("train", "--data", SAMPLE, "--out", out, "--encoder", encoder, *more)
    return Classifier.load(out)


@pytest.fixture(scope="module")
def trained(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    return _train(tiny_encoder, tmp_path_factory.mktemp("trained"), "--validation", SAMPLE)


def _normed(x: Array, weights: dict[str, npt.NDArray[np.float32]], name: str) -> Array:
    scaled = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-12)
    result: Array = scaled * weights[f"{name}.LayerNorm.weight"] + weights[f"{name}.LayerNorm.bias"]
    return result


def _reference(ids: npt.NDArray[np.int64]) -> Array:
    """BERT in plain numpy, from the paper."""
    w = _weights()

    def dense(x: Array, name: str) -> Array:
        result: Array = x @ w[f"{name}.weight"].T + w[f"{name}.bias"]
        return result

    x: Array = w["embeddings.word_embeddings.weight"][ids].astype(np.float64)
    x = x + w["embeddings.position_embeddings.weight"][: len(ids)]
    x = _normed(x + w["embeddings.token_type_embeddings.weight"][0], w, "embeddings")
    for layer in (f"encoder.layer.{i}" for i in range(LAYERS)):
        q, k, v = (
            dense(x, f"{layer}.attention.self.{part}").reshape(len(ids), HEADS, -1).swapaxes(0, 1)
            for part in ("query", "key", "value")
        )
        scores = np.exp(q @ k.swapaxes(1, 2) / np.sqrt(HIDDEN / HEADS))
        mixed = (scores / scores.sum(-1, keepdims=True) @ v).swapaxes(0, 1).reshape(len(ids), HIDDEN)
        x = _normed(dense(mixed, f"{layer}.attention.output.dense") + x, w, f"{layer}.attention.output")
        wide = dense(x, f"{layer}.intermediate.dense")
        active = wide * 0.5 * (1 + np.vectorize(erf)(wide / np.sqrt(2)))
        x = _normed(dense(active, f"{layer}.output.dense") + x, w, f"{layer}.output")
    pooled: Array = x.mean(0)
    return pooled / np.linalg.norm(pooled)


def _exported(origin: Path, out: Path, scheme: str) -> Encoder:
    from weir.router.training.quantize import export_encoder

    shutil.copy(origin / "tokenizer.json", out)
    export_encoder(origin, out / "encoder.onnx", scheme, [np.arange(1000, 1064)])
    return Encoder(out / "encoder.onnx", out / "tokenizer.json", 256)


def test_exported_graph_computes_bert(tiny_encoder: Path, tmp_path: Path) -> None:
    encoder = _exported(tiny_encoder, tmp_path, "fp32")
    pieces = encoder.tokenize("What rises above the weir goes over the top.")
    assert encoder.embed(pieces)[0] == pytest.approx(_reference(pieces.ids), abs=1e-5)


@pytest.mark.parametrize(
    "scheme",
    SCHEMES,
)
def test_quantized_encoder_stays_close(tiny_encoder: Path, tmp_path: Path, scheme: str) -> None:
    encoder = _exported(tiny_encoder, tmp_path, scheme)
    pieces = encoder.tokenize("What rises above the weir goes over the top.")
    assert float(encoder.embed(pieces)[0] @ _reference(pieces.ids)) > 0.95


def test_training_gives_a_usable_artifact(trained: Classifier) -> None:
    assert 0 <= trained.classify("What is 2 + 2?").complexity <= 1
    assert trained.metadata.encoder.dimensions == HIDDEN
    assert {"all: complexity", "unseen subjects: complexity", "baseline: prompt length"} <= set(
        trained.metadata.metrics
    )
    assert {"fp32 encoder, same heads: complexity", "baseline: subject's mean (wrong)"} <= set(
        trained.metadata.metrics
    )


def test_same_data_gives_the_same_revision(trained: Classifier, tiny_encoder: Path, tmp_path: Path) -> None:
    assert _train(tiny_encoder, tmp_path).revision == trained.revision


def test_evaluate_prints_the_packaged_classifier_beside_baselines() -> None:
    table = json.loads(_run("evaluate", "--data", SAMPLE, "--json"))["metrics"]
    assert table["baseline: random order"]["apgr"] == pytest.approx(0.5)
    assert table["all: complexity"]["rows"] == 207
    assert table["all: complexity"]["auroc"] > 0.6


def test_encoders_compares_every_scheme(tiny_encoder: Path) -> None:
    arguments = ("--data", SAMPLE, "--validation", SAMPLE, "--encoder", tiny_encoder, "--json")
    printed = _run("encoders", *arguments)
    table = json.loads(printed[printed.index("{") :])
    assert set(table) == {"fp32", *SCHEMES}
    assert table["fp32"]["cosine"] == pytest.approx(1)
    assert table["int8-channel-reduced"]["mb"] < table["fp32"]["mb"]
    assert min(row["ms_64"] for row in table.values()) > 0


def test_inspect_prints_the_metadata() -> None:
    assert json.loads(_run("inspect"))["data"]["name"] == "train.jsonl"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no rows"),
        ('{"prompt": "a", "weak_correct": true, "strong_correct": true}\n', "at least"),
        ('{"prompt": "a"}\n', "line 1"),
        ("not json\n", "line 1"),
    ],
)
def test_unfit_data_is_refused_with_what_it_lacks(tmp_path: Path, content: str, message: str) -> None:
    data = tmp_path / "rows.jsonl"
    data.write_text(content)
    result = CliRunner().invoke(router_app, ["train", "--data", str(data), "--out", str(tmp_path / "out")])
    assert result.exit_code == 1
    assert message in result.output
    assert not (tmp_path / "out").exists()


def test_folder_without_weights_is_refused(tmp_path: Path) -> None:
    arguments = ["train", "--data", SAMPLE, "--out", tmp_path / "out", "--encoder", tmp_path]
    result = CliRunner().invoke(router_app, [str(argument) for argument in arguments])
    assert result.exit_code == 1
    assert "model.safetensors" in result.output
