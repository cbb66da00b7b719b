"""A decoder's graph computes what the model does, in every precision, and runs as a classifier's artifact."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

onnx = pytest.importorskip("onnx", reason="needs the extra weir[train]")
pytest.importorskip("onnx_ir", reason="needs the extra weir[train]")
pytest.importorskip("sklearn", reason="needs the extra weir[train]")

import onnxruntime as ort  # noqa: E402

from tests import tiny_llama  # noqa: E402
from weir.common.errors import WeirError  # noqa: E402
from weir.models.llama_folder import LlamaModel  # noqa: E402
from weir.router.classifier import Classifier, artifact  # noqa: E402
from weir.router.classifier.artifact import ArtifactMetadata, Calibration, DataFacts, ModelFacts  # noqa: E402
from weir.router.classifier.form import FEATURES  # noqa: E402
from weir.router.cli import router_app  # noqa: E402
from weir.router.training import heads  # noqa: E402
from weir.router.training.heads import Heads, Labels  # noqa: E402
from weir.router.training.trunk import precision  # noqa: E402
from weir.router.training.trunk.batches import batches, padded  # noqa: E402
from weir.router.training.trunk.export import export  # noqa: E402
from weir.router.training.trunk.llama_graph import LlamaGraph  # noqa: E402
from weir.router.training.trunk.plan import Precision, TrunkError  # noqa: E402
from weir.router.training.trunk.rotary import rotary_tables  # noqa: E402

POSITIONS, NUMBERS = 64, len(FEATURES)
PROMPTS = ["What is 2 + 2?", "Prove it.\nStep by step, and then once more, for all odd primes."]
SAMPLE = Path(__file__).parent.parent / "data" / "routing_sample.jsonl"
Rows = npt.NDArray[np.float32]


def _run(model: Any, prompts: list[list[int]]) -> Rows:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    ids, mask = padded([np.array(prompt, np.int64) for prompt in prompts])
    rows: Rows = session.run(None, {"input_ids": ids, "attention_mask": mask})[0]
    return rows


def _built(made: LlamaModel, pooling: str = "last") -> Any:
    return LlamaGraph(made, POSITIONS).build(pooling)


@pytest.mark.parametrize(
    "made",
    [
        tiny_llama.model(),
        tiny_llama.model(biases=True, model_type="qwen2"),
        tiny_llama.model(head_norms=True, model_type="qwen3"),
    ],
    ids=["llama", "qwen2", "qwen3"],
)
@pytest.mark.parametrize(("pooling", "of"), [("last", -1), ("cls", 0)])
def test_the_graph_gives_the_models_hidden_state(made: LlamaModel, pooling: str, of: int) -> None:
    prompts = [[7, 250, 3, 3, 99], [12, 0, 41]]
    found = _run(_built(made, pooling), prompts)
    expected = [tiny_llama.hidden_states(made, prompt)[of] for prompt in prompts]
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_mean_pooling_leaves_the_padding_out() -> None:
    made, prompts = tiny_llama.model(), [[7, 250, 3, 3, 99], [12, 0]]
    expected = [tiny_llama.hidden_states(made, prompt).mean(0) for prompt in prompts]
    np.testing.assert_allclose(_run(_built(made, "mean"), prompts), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model_type": "gpt2"}, "'gpt2'"),
        ({"hidden_act": "gelu"}, "'gelu'"),
        ({"sliding_window": 16}, "window of 16"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "'yarn'"),
    ],
)
def test_a_model_that_the_graph_cannot_hold_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        LlamaGraph(tiny_llama.model(**changes), POSITIONS)


def test_llama_3_slows_low_frequencies_alone() -> None:
    scaling = {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    plain = rotary_tables({"rope_theta": 500_000.0}, 64, 2)[1][1]
    scaled = rotary_tables({"rope_theta": 500_000.0, "rope_scaling": scaling}, 64, 2)[1][1]
    np.testing.assert_array_equal(scaled[:10], plain[:10])
    np.testing.assert_allclose(scaled[-5:], plain[-5:] / 8, rtol=1e-4)


@pytest.mark.parametrize(("wanted", "least"), [("fp16", 0.9999), ("int8", 0.995), ("int4", 0.9)])
def test_fewer_bits_stay_close(wanted: Precision, least: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "_TABLE_ENTRIES", 1)
    prompts = [[7, 250, 3, 3, 99], [12, 0, 41]]
    exact = _run(_built(tiny_llama.model()), prompts)
    model = precision.convert(_built(tiny_llama.model()), wanted)
    found = _run(model, prompts)
    cosine = (exact * found).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(found, axis=1)
    assert cosine.min() > least
    assert not precision.is_float32(model)


def test_int8_keeps_the_table_of_words_in_one_byte_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "_TABLE_ENTRIES", 1)
    model = precision.convert(_built(tiny_llama.model()), "int8")
    kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    assert kinds["words_int8"] == onnx.TensorProto.INT8
    assert "words" not in kinds


def _heads(width: int) -> Heads:
    generator = np.random.default_rng(1)
    features = generator.normal(0, 1, (60, width + NUMBERS)).astype(np.float32)
    wrong = features[:, 0] > 0
    labels = Labels(
        wrong=wrong,
        knows_wrong=np.ones(60, bool),
        gain=wrong.astype(float),
        weights=np.ones(60),
        subjects=np.array([f"subject {n % 6}" for n in range(60)]),
        groups=np.array(["law" if n % 2 else "math" for n in range(60)]),
    )
    return heads.fit(features, width, labels)


@pytest.fixture(scope="module")
def exact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact in float32 over the tiny model; nobody changes it."""
    folder = tmp_path_factory.mktemp("exact")
    precision.save(_built(tiny_llama.model()), folder / artifact.MODEL)
    tiny_llama.tokenizer().save(str(folder / artifact.TOKENIZER))
    fitted = _heads(tiny_llama.HIDDEN)
    heads.export(fitted, folder / artifact.HEADS)
    facts = ModelFacts("decoder", "tiny", "a test", "", "MIT", "fp32", POSITIONS, tiny_llama.HIDDEN, [], [])
    data = DataFacts("rows", "", 2, "MIT", "weak", "strong", ["math"], 0.6, 0.2)
    metadata = ArtifactMetadata(
        format=artifact.FORMAT,
        revision="",
        created="2025-01-01",
        license="MIT",
        model=facts,
        data=data,
        calibration=Calibration(1.0, 0.0),
        conformal={"fit": [0.5] * 101, "unfit": [0.5] * 101, "rows": [9.0, 9.0]},
        domains=list(fitted.names),
        files={},
        versions={},
        heads={},
    )
    artifact.write_metadata(artifact.sealed(metadata, folder), folder)
    return folder


def test_a_decoder_is_loaded_like_any_artifact(exact: Path) -> None:
    classifier = Classifier.load(exact)
    together, alone = classifier.assess(PROMPTS), [classifier.assess([prompt])[0] for prompt in PROMPTS]
    for one, other in zip(together, alone, strict=True):
        assert one.complexity == pytest.approx(other.complexity, abs=1e-5)
        assert one.gain == pytest.approx(other.gain, abs=1e-5)
        assert one.domains[0].name in {"math", "law"}


@pytest.mark.parametrize("wanted", ["int8", "int4", "fp16"])
def test_an_exported_artifact_judges_alike(exact: Path, tmp_path: Path, wanted: Precision) -> None:
    metadata = export(exact, wanted, tmp_path / "small")
    assert metadata.model.precision == wanted
    before, after = Classifier.load(exact), Classifier.load(tmp_path / "small")
    assert before.revision != after.revision
    for one, other in zip(before.assess(PROMPTS), after.assess(PROMPTS), strict=True):
        assert one.complexity == pytest.approx(other.complexity, abs=0.15)


def test_export_measures_both_where_rows_are_given(exact: Path, tmp_path: Path) -> None:
    options = ["--artifact", str(exact), "--out", str(tmp_path / "small"), "--data", str(SAMPLE)]
    result = CliRunner().invoke(router_app, ["export", *options, "--precision", "int8"])
    assert result.exit_code == 0, result.output
    metrics = artifact.verify(tmp_path / "small").metrics
    assert {"apgr", "ece", "auroc"} <= metrics["int8"].keys() & metrics["fp32"].keys()


def test_weights_past_one_file_are_kept_beside_it(
    exact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "EXTERNAL_BYTES", 1)
    metadata = export(exact, "int8", tmp_path / "large")
    assert artifact.MODEL_DATA in metadata.files
    assert (tmp_path / "large" / artifact.MODEL).stat().st_size < (exact / artifact.MODEL).stat().st_size / 2
    assert Classifier.load(tmp_path / "large").assess(PROMPTS)


def test_weights_beside_the_model_are_checked_too(
    exact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "EXTERNAL_BYTES", 1)
    export(exact, "int8", tmp_path / "large")
    data = tmp_path / "large" / artifact.MODEL_DATA
    data.write_bytes(data.read_bytes()[:-100])
    with pytest.raises(WeirError, match=r"model\.onnx\.data is not the file"):
        Classifier.load(tmp_path / "large")


def test_a_quantized_artifact_is_not_exported_again(exact: Path, tmp_path: Path) -> None:
    export(exact, "int4", tmp_path / "small")
    with pytest.raises(TrunkError, match=r"stored as int4; .* --master"):
        export(tmp_path / "small", "int8", tmp_path / "other")


def test_export_does_not_overwrite_its_source(exact: Path) -> None:
    with pytest.raises(TrunkError, match="another folder"):
        export(exact, "int8", exact / ".." / exact.name)


@pytest.mark.parametrize("damage", ["truncated", "foreign", "absent"])
def test_export_says_what_is_wrong_with_an_artifact(exact: Path, tmp_path: Path, damage: str) -> None:
    damaged = Path(shutil.copytree(exact, tmp_path / "damaged"))
    model = damaged / artifact.MODEL
    if damage == "truncated":
        model.write_bytes(model.read_bytes()[:1000])
    elif damage == "foreign":
        (damaged / artifact.METADATA).write_bytes(msgspec.json.encode({"format": 1}))
    else:
        (damaged / artifact.METADATA).unlink()
    options = ["--artifact", str(damaged), "--out", str(tmp_path / "small")]
    result = CliRunner().invoke(router_app, ["export", *options])
    assert result.exit_code == 1
    assert "cannot be used" in result.output
    assert not (tmp_path / "small").exists()


def test_an_unknown_precision_names_the_known_ones(exact: Path, tmp_path: Path) -> None:
    options = ["--artifact", str(exact), "--out", str(tmp_path / "small"), "--precision", "int2"]
    result = CliRunner().invoke(router_app, ["export", *options])
    assert result.exit_code == 1
    assert "'int2' is none of fp32, fp16, int8, int4" in result.output


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    options = ["--data", str(SAMPLE), "--out", str(tmp_path / "out"), "--trunk", str(tmp_path)]
    result = CliRunner().invoke(router_app, ["train", *options])
    assert result.exit_code == 1
    assert "torch" in result.output
    assert "pip install 'weir[finetune]'" in result.output


@given(st.lists(st.integers(1, 60), min_size=1, max_size=50), st.integers(1, 200), st.booleans())
@settings(max_examples=60, deadline=None)
def test_batches_hold_each_row_once_within_their_budget(
    lengths: list[int], budget: int, shuffled: bool
) -> None:
    draw = np.random.default_rng(0) if shuffled else None
    made = batches(lengths, np.arange(len(lengths)), budget, draw)
    assert sorted(np.concatenate(made).tolist()) == list(range(len(lengths)))
    for part in made:
        assert len(part) == 1 or max(lengths[row] for row in part) * len(part) <= budget
