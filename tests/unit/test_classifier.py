"""The packaged classifier: integrity, bounds, determinism, calibration."""

from __future__ import annotations

import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from weir.common.errors import ErrorCode, WeirError
from weir.router.classifier import Classifier, artifact
from weir.router.training import dataset, metrics
from weir.router.training.evaluation import Predictions, predict

SAMPLE = Path(__file__).parent.parent / "data" / "routing_sample.jsonl"


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier.load()


@pytest.fixture(scope="module")
def sample() -> dataset.Dataset:
    return dataset.read(SAMPLE)


@pytest.fixture(scope="module")
def predictions(classifier: Classifier, sample: dataset.Dataset) -> Predictions:
    return predict(classifier, sample)


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    return Path(shutil.copytree(artifact.PACKAGED, tmp_path / "artifact"))


def test_packaged_artifact_is_small_and_documents_itself(classifier: Classifier) -> None:
    size = sum(path.stat().st_size for path in artifact.PACKAGED.iterdir())
    facts = classifier.metadata
    assert size < 30e6
    assert facts.revision == classifier.revision
    assert facts.model.license == facts.license == "Apache-2.0"
    assert facts.data.weak_model == "Mixtral-8x7B-Instruct-v0.1"
    assert facts.metrics["all"]["ece"] <= 0.03
    assert facts.metrics["all"]["apgr"] > facts.metrics["baseline: prompt length"]["apgr"]


def test_changed_file_is_refused_with_what_to_do(copied: Path) -> None:
    with (copied / artifact.HEADS).open("ab") as head:
        head.write(b"\0")
    with pytest.raises(WeirError) as caught:
        Classifier.load(copied)
    assert caught.value.code is ErrorCode.MODEL_UNAVAILABLE
    assert artifact.HEADS in caught.value.hint
    assert "weir router train" in caught.value.hint


@pytest.mark.parametrize("name", [*artifact.FILES, artifact.METADATA])
def test_missing_file_is_refused_by_name(copied: Path, name: str) -> None:
    (copied / name).unlink()
    with pytest.raises(WeirError, match=name) as caught:
        Classifier.load(copied)
    assert caught.value.code is ErrorCode.MODEL_UNAVAILABLE


def test_changed_calibration_is_refused(copied: Path) -> None:
    path = copied / artifact.METADATA
    content = msgspec.json.decode(path.read_bytes())
    content["calibration"]["slope"] = 9.0
    path.write_bytes(msgspec.json.encode(content))
    with pytest.raises(WeirError, match="changed after training"):
        Classifier.load(copied)


def test_revision_follows_what_decides_the_answers(classifier: Classifier) -> None:
    facts = classifier.metadata
    other = msgspec.structs.replace(facts, files=facts.files | {artifact.HEADS: "0" * 64})
    later = msgspec.structs.replace(facts, created="2031-01-01", metrics={})
    assert artifact.revision_of(other) != classifier.revision
    assert artifact.revision_of(later) == classifier.revision


def test_truncated_model_is_refused(copied: Path) -> None:
    path = copied / artifact.MODEL
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(WeirError, match="not the file that was recorded"):
        Classifier.load(copied)


def test_older_format_is_refused_by_its_number(copied: Path) -> None:
    (copied / artifact.METADATA).write_text('{"format": 1}')
    with pytest.raises(WeirError, match="format 1"):
        Classifier.load(copied)


def test_foreign_model_is_refused(copied: Path) -> None:
    shutil.copyfile(copied / artifact.HEADS, copied / artifact.MODEL)
    artifact.write_metadata(artifact.sealed(artifact.read_metadata(copied), copied), copied)
    with pytest.raises(WeirError, match="cannot be run") as caught:
        Classifier.load(copied)
    assert caught.value.code is ErrorCode.MODEL_UNAVAILABLE


def test_metadata_of_another_shape_is_refused(copied: Path) -> None:
    (copied / artifact.METADATA).write_text('{"format": 2}')
    with pytest.raises(WeirError, match="not valid"):
        Classifier.load(copied)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=400))
def test_any_text_gives_probabilities_and_twice_the_same(classifier: Classifier, text: str) -> None:
    first = classifier.assess([text])[0]
    assert 0 <= first.complexity <= 1
    assert -1 <= first.gain <= 1
    assert 0.5 <= first.confidence <= 1
    assert {share.name for share in first.domains} <= set(classifier.metadata.domains)
    assert all(0 < share.probability <= 1 for share in first.domains)
    assert first.tokens >= 0
    assert classifier.assess([text])[0] == first


def test_a_prompt_is_judged_alike_alone_and_among_others(classifier: Classifier) -> None:
    prompts = ["Short?", "What does a weir do to a river's ordinary flow, and what to a flood?", "x " * 300]
    alone = [classifier.assess([prompt])[0] for prompt in prompts]
    assert classifier.assess(prompts) == alone


@pytest.mark.parametrize(
    "text", ["", " \n\t", "\ud800 lone surrogate", "😀" * 500, "日本語のテキスト", "a" * 5000, "\0\x1b"]
)
def test_odd_text_is_assessed(classifier: Classifier, text: str) -> None:
    assert 0 <= classifier.assess([text])[0].complexity <= 1


def test_a_megabyte_is_assessed_in_bounded_time(classifier: Classifier) -> None:
    text = "wörd 123! " * 100_000
    start = time.perf_counter()
    assessment = classifier.assess([text])[0]
    assert time.perf_counter() - start < 2
    exact = classifier.assess([text[:60_000]])[0].tokens * len(text) / 60_000
    assert assessment.tokens == pytest.approx(exact, rel=0.01)


def test_eight_threads_get_the_answers_of_one(classifier: Classifier, sample: dataset.Dataset) -> None:
    prompts = [row.prompt for row in sample.rows[:24]]
    alone = [classifier.assess([prompt]) for prompt in prompts]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda prompt: classifier.assess([prompt]), prompts * 4))
    assert together == alone * 4


def test_unseen_prompts_are_calibrated(predictions: Predictions, sample: dataset.Dataset) -> None:
    wrong = ~sample.weak
    # Perfect probabilities would show about 0.07 with 207 rows in 10 bins.
    assert metrics.ece(predictions.complexity, wrong) < 0.15
    assert abs(predictions.complexity.mean() - wrong.mean()) < 0.08
    base_rate = metrics.brier(np.full(len(wrong), wrong.mean()), wrong)
    assert metrics.brier(predictions.complexity, wrong) < base_rate


def test_unseen_prompts_are_ranked_better_than_by_length(
    predictions: Predictions, sample: dataset.Dataset
) -> None:
    length = np.array([float(len(row.prompt)) for row in sample.rows])
    assert metrics.auroc(predictions.complexity, ~sample.weak) > metrics.auroc(length, ~sample.weak) + 0.05


def test_gain_routes_better_than_length(predictions: Predictions, sample: dataset.Dataset) -> None:
    length = np.array([float(len(prompt)) for prompt in sample.prompts])
    by_length = metrics.apgr(length, sample.weak, sample.strong)
    assert metrics.apgr(predictions.gain, sample.weak, sample.strong) > by_length


def test_domain_head_knows_most_subjects(classifier: Classifier, sample: dataset.Dataset) -> None:
    likeliest = [classifier.assess([prompt])[0].domains[:1] for prompt in sample.prompts]
    found = np.array([shares[0].name if shares else "" for shares in likeliest])
    assert np.mean(found == sample.groups) > 0.6
