"""Training from prompts to an artifact, over a tiny encoder with random weights."""

from __future__ import annotations

import json
import shutil
from math import erf
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from typer.testing import CliRunner

from weir.router.classifier import Classifier, artifact
from weir.router.classifier.artifact import ModelFacts
from weir.router.classifier.encoder import Encoder, session
from weir.router.cli import router_app

numpy_format = pytest.importorskip("safetensors.numpy", reason="needs the extra weir[train]")
pytest.importorskip("onnx_ir", reason="needs the extra weir[train]")
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


Parts = tuple[Path, Path]


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    """Training and validation rows: every third row of the sample validates."""
    folder = tmp_path_factory.mktemp("parts")
    lines = SAMPLE.read_text(encoding="utf-8").splitlines(keepends=True)
    train, validation = folder / "train.jsonl", folder / "validation.jsonl"
    train.write_text("".join(line for i, line in enumerate(lines) if i % 3), encoding="utf-8")
    validation.write_text("".join(lines[::3]), encoding="utf-8")
    return train, validation


def _train(encoder: Path, out: Path, parts: Parts) -> Classifier:
    train, validation = parts
    _run("train", "--data", train, "--validation", validation, "--out", out, "--encoder", encoder)
    return Classifier.load(out)


@pytest.fixture(scope="module")
def trained(tiny_encoder: Path, parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    return _train(tiny_encoder, tmp_path_factory.mktemp("trained"), parts)


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


FACTS = ModelFacts(
    kind="encoder",
    name="tiny",
    source="a test",
    source_sha256="0" * 64,
    license="Apache-2.0",
    precision="fp32",
    max_tokens=256,
    dimensions=HIDDEN,
    begin=[101],
    end=[102],
)


def _exported(origin: Path, out: Path, scheme: str) -> Encoder:
    from weir.router.training.quantize import export_encoder

    shutil.copy(origin / "tokenizer.json", out)
    export_encoder(origin, out / artifact.MODEL, scheme, [np.arange(1000, 1064)])
    return Encoder(out, FACTS)


def test_exported_graph_computes_bert(tiny_encoder: Path, tmp_path: Path) -> None:
    encoder = _exported(tiny_encoder, tmp_path, "fp32")
    pieces = encoder.tokenize("What rises above the weir goes over the top.")
    assert encoder.embed([pieces])[0] == pytest.approx(_reference(pieces.ids), abs=1e-5)


def test_padding_does_not_change_an_embedding(tiny_encoder: Path, tmp_path: Path) -> None:
    _exported(tiny_encoder, tmp_path, "fp32")
    model = session(tmp_path / artifact.MODEL)
    ids = np.array([[101, 2000, 3000, 102, 0, 0]])
    padded = model.run(None, {"input_ids": ids, "attention_mask": (ids > 0).astype(np.int64)})[0]
    assert padded[0] == pytest.approx(_reference(ids[0, :4]), abs=1e-5)


def test_first_layers_alone_are_kept(tiny_encoder: Path, tmp_path: Path) -> None:
    from weir.router.training.quantize import export_encoder

    export_encoder(tiny_encoder, tmp_path / "one.onnx", "fp32", [], layers=1)
    names = [node.name for node in onnx.load(tmp_path / "one.onnx").graph.node]
    assert any(name.startswith("layer0") for name in names)
    assert not any(name.startswith("layer1") for name in names)


@pytest.mark.parametrize(
    "scheme",
    SCHEMES,
)
def test_quantized_encoder_stays_close(tiny_encoder: Path, tmp_path: Path, scheme: str) -> None:
    encoder = _exported(tiny_encoder, tmp_path, scheme)
    pieces = encoder.tokenize("What rises above the weir goes over the top.")
    assert float(encoder.embed([pieces])[0] @ _reference(pieces.ids)) > 0.95


def test_training_gives_a_usable_artifact(trained: Classifier) -> None:
    found = trained.assess(["What is 2 + 2?"])[0]
    assert 0 <= found.complexity <= 1
    assert -1 <= found.gain <= 1
    assert trained.metadata.model.dimensions == HIDDEN
    assert trained.metadata.data.domains == sorted(trained.metadata.data.domains)
    expected = {"all", "unseen subjects", "before quantization", "baseline: prompt length"}
    assert expected <= set(trained.metadata.metrics)


def test_exported_heads_compute_what_was_fitted(trained: Classifier, tmp_path: Path) -> None:
    from weir.router.training import dataset, heads, pipeline

    data = dataset.read(SAMPLE)
    features = pipeline.features_of(trained.encoder, data)
    fitted = heads.fit(features, HIDDEN, pipeline.labels_of(data))
    heads.export(fitted, tmp_path / artifact.HEADS)
    events, domains = session(tmp_path / artifact.HEADS).run(["events", "domains"], {"features": features})
    assert events[:, 0] == pytest.approx(fitted.complexity(features), abs=1e-4)
    assert events[:, 1] == pytest.approx(fitted.gain(features), abs=1e-4)
    assert domains.shape == (len(data.rows), len(fitted.names))


def test_calibration_bends_scores_to_what_happened_and_never_falls() -> None:
    from weir.router.classifier.model import calibrated
    from weir.router.training.recalibration import bent

    generator = np.random.default_rng(3)
    score = generator.uniform(0.02, 0.98, 6_000)
    truth = 0.1 + 0.5 * score**3
    made = bent(score, generator.random(6_000) < truth, np.ones(6_000))
    grid = np.linspace(0.001, 0.999, 200)
    assert np.all(np.diff(calibrated(grid, made)) >= -1e-12)
    assert np.abs(calibrated(score, made) - truth).mean() < 0.02


def test_few_rows_are_calibrated_by_two_numbers() -> None:
    from weir.router.training.recalibration import bent

    score = np.linspace(0.1, 0.9, 60)
    assert bent(score, score > 0.5, np.ones(60)).points == []


def test_rows_that_know_one_model_teach_its_error_alone(trained: Classifier, tmp_path: Path) -> None:
    from weir.router.training import dataset, pipeline

    rows = [json.loads(line) for line in SAMPLE.read_text().splitlines()]
    for row in rows[::3]:
        row["strong_correct"] = None
    partly = tmp_path / "partly.jsonl"
    partly.write_text("".join(json.dumps(row) + "\n" for row in rows))
    labels = pipeline.labels_of(dataset.read(partly))
    assert np.isnan(labels.gain[::3]).all()
    assert labels.knows_wrong.all()


def test_same_data_gives_the_same_revision(
    trained: Classifier, tiny_encoder: Path, parts: Parts, tmp_path: Path
) -> None:
    assert _train(tiny_encoder, tmp_path, parts).revision == trained.revision


def test_training_without_validation_keeps_rows_and_domains_aside(tiny_encoder: Path, tmp_path: Path) -> None:
    _run("train", "--data", SAMPLE, "--out", tmp_path, "--encoder", tiny_encoder)
    facts = Classifier.load(tmp_path).metadata
    aside, unseen = facts.metrics["all"]["rows"], facts.metrics["unseen domains"]["rows"]
    assert sum(facts.conformal["rows"]) == aside
    assert 0 < unseen < aside
    assert facts.data.rows + aside + unseen <= len(SAMPLE.read_text(encoding="utf-8").splitlines())


def test_encoders_compares_every_scheme(tiny_encoder: Path, parts: Parts) -> None:
    rows = parts[1]
    arguments = ("--data", rows, "--validation", rows, "--encoder", tiny_encoder, "--json")
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
