"""`weir router evaluate` and `calibrate`, over a tiny artifact."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

pytest.importorskip("onnx", reason="needs the extra weir[train]")
pytest.importorskip("matplotlib", reason="needs the extra weir[train]")

from tests.tiny_classifier import write_tiny_classifier
from weir.router.classifier import artifact as artifacts
from weir.router.classifier.base import Assessment
from weir.router.classifier.model import Classifier
from weir.router.cli import router_app
from weir.router.training import baselines, dataset, evaluation, metrics
from weir.router.training.bootstrap import Resampling
from weir.router.training.evaluation import Predictions
from weir.router.training.labels import LabeledRow
from weir.router.training.report import Setting, report

SAMPLE = Path(__file__).parent.parent / "data" / "routing_sample.jsonl"
KEYS = {"rows", "apgr", "cpt50", "cpt80", "ece", "weak_accuracy", "strong_accuracy"}
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    domains = sorted(set(dataset.read(SAMPLE).subjects.tolist()) - {"gsm8k", "astronomy"})
    write_tiny_classifier(folder, domains)
    return folder


def _invoke(command: str, *arguments: object) -> Result:
    return CliRunner().invoke(router_app, [command, *map(str, arguments)])


def _evaluate(data: Path, tiny: Path, *more: object) -> Any:
    result = _invoke("evaluate", "--data", data, "--artifact", tiny, "--json", "--samples", 50, *more)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def _refused(*arguments: object, command: str = "evaluate") -> str:
    result = _invoke(command, *arguments)
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    return result.stderr


def _write(path: Path, rows: Sequence[Mapping[str, object]]) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return path


def _row(number: int, weak: bool, strong: bool, domain: str = "law") -> dict[str, object]:
    prompt = f"question number {number} " + "and more " * (number % 7)
    return {"prompt": prompt, "source": "s", "domain": domain, "weak_correct": weak, "strong_correct": strong}


def test_json_is_one_object_with_the_figures_and_their_intervals(tiny: Path) -> None:
    found = _evaluate(SAMPLE, tiny)
    assert set(found) >= KEYS | {
        "intervals",
        "revision",
        "baselines",
        "by_source",
        "unseen_domains",
        "curve",
    }
    assert found["rows"] == 207
    assert found["revision"] == Classifier.load(tiny).revision
    assert set(found["intervals"]) >= KEYS - {"rows"}
    for name, (low, high) in found["intervals"].items():
        assert low <= found[name] <= high
    assert set(found["by_source"]) == {"gsm8k", "mmlu"}


def test_the_figures_are_those_of_the_definitions(tiny: Path) -> None:
    found, data = _evaluate(SAMPLE, tiny), dataset.read(SAMPLE)
    assessed = [Classifier.load(tiny).assess([prompt])[0] for prompt in data.prompts]
    gain = np.array([assessment.gain for assessment in assessed])
    complexity = np.array([assessment.complexity for assessment in assessed])
    assert found["apgr"] == pytest.approx(metrics.apgr(gain, data.weak, data.strong))
    assert found["cpt80"] == pytest.approx(metrics.cpt(gain, data.weak, data.strong, 0.8))
    assert found["ece"] == pytest.approx(metrics.ece(complexity, ~data.weak))
    assert found["weak_accuracy"] == pytest.approx(data.weak.mean())


def test_every_trivial_router_stands_beside_the_classifier(tiny: Path) -> None:
    found = _evaluate(SAMPLE, tiny)
    table = found["baselines"]
    assert set(table) == {
        "random",
        "prompt length",
        "domain's mean",
        "oracle",
        "always cheap",
        "always dear",
    }
    assert table["random"]["apgr"] == pytest.approx(0.5)
    assert table["oracle"]["apgr"] > max(found["apgr"], 1)
    assert table["always cheap"]["weak_accuracy"] == found["weak_accuracy"]
    assert table["always dear"]["strong_accuracy"] == found["strong_accuracy"]
    ahead = found["advantage"]["prompt length"]
    assert ahead["apgr"] == pytest.approx(found["apgr"] - table["prompt length"]["apgr"])


def test_the_curve_runs_from_the_cheap_to_the_dear_accuracy(tiny: Path) -> None:
    found = _evaluate(SAMPLE, tiny)
    assert found["curve"][0] == pytest.approx([0, found["weak_accuracy"]])
    assert found["curve"][-1] == pytest.approx([1, found["strong_accuracy"]])
    assert len(found["curve"]) == 101


def test_domains_that_were_not_trained_on_are_reported_apart(tiny: Path) -> None:
    found = _evaluate(SAMPLE, tiny)
    rows = [row for row in dataset.read(SAMPLE).rows if row.domain in {"gsm8k", "astronomy"}]
    assert found["unseen_names"] == ["astronomy", "gsm8k"]
    assert found["unseen_domains"]["rows"] == len(rows)


def test_the_training_file_tells_what_was_seen(tiny: Path, tmp_path: Path) -> None:
    train = _write(tmp_path / "train.jsonl", [_row(n, n % 2 > 0, True, "astronomy") for n in range(4)])
    found = _evaluate(SAMPLE, tiny, "--train", train)
    assert "astronomy" not in found["unseen_names"]
    assert "gsm8k" in found["unseen_names"]
    assert not any("cross-fitted" in note for note in found["notes"])


def test_leaked_rows_are_counted_aloud(tiny: Path) -> None:
    result = _invoke(
        "evaluate", "--data", SAMPLE, "--artifact", tiny, "--train", SAMPLE, "--json", "--samples", 0
    )
    assert "207 prompts were trained on" in result.stderr
    assert "207 prompts were trained on" in " ".join(json.loads(result.stdout)["notes"])


def test_the_table_names_every_row(tiny: Path) -> None:
    result = _invoke("evaluate", "--data", SAMPLE, "--artifact", tiny, "--samples", 20)
    assert result.exit_code == 0
    for name in ("classifier", "mmlu", "2 unseen domains", "prompt length", "oracle", "always dear"):
        assert name in result.stdout
    assert "any router escalates at least" in result.stdout
    assert "ECE of perfect probabilities" in result.stdout


def test_plot_writes_a_png(tiny: Path, tmp_path: Path) -> None:
    picture = tmp_path / "curves.png"
    result = _invoke(
        "evaluate", "--data", SAMPLE, "--artifact", tiny, "--plot", picture, "--json", "--samples", 0
    )
    assert result.exit_code == 0, result.output
    assert picture.read_bytes().startswith(PNG)
    assert "apgr" in json.loads(result.stdout)


@pytest.mark.parametrize(("name", "why"), [("curves.pdf", "end in .png"), ("none/curves.png", "not exist")])
def test_a_picture_that_cannot_be_written_is_refused_at_once(
    tiny: Path, tmp_path: Path, name: str, why: str
) -> None:
    assert why in _refused("--data", SAMPLE, "--artifact", tiny, "--plot", tmp_path / name)


def test_a_foreign_artifact_is_refused(tmp_path: Path) -> None:
    assert "train it again" in _refused("--data", SAMPLE, "--artifact", tmp_path)


def test_a_line_that_is_no_label_is_refused_by_number(tiny: Path, tmp_path: Path) -> None:
    data = _write(tmp_path / "rows.jsonl", [_row(1, True, True), {"prompt": "a"}])
    assert "line 2" in _refused("--data", data, "--artifact", tiny)


def test_rows_that_know_one_model_only_cannot_be_measured(tiny: Path, tmp_path: Path) -> None:
    data = _write(tmp_path / "rows.jsonl", [{"prompt": "a", "weak_correct": None, "strong_correct": True}])
    assert "nothing can be measured" in _refused("--data", data, "--artifact", tiny)


@pytest.mark.parametrize(
    ("weak", "strong"),
    [(lambda n: n % 2 > 0, lambda n: n % 2 == 0), (lambda n: True, lambda n: n > 3)],
    ids=["equal", "strong worse"],
)
def test_models_without_a_gap_leave_the_routing_figures_out(
    tiny: Path, tmp_path: Path, weak: Callable[[int], bool], strong: Callable[[int], bool]
) -> None:
    data = _write(tmp_path / "rows.jsonl", [_row(n, weak(n), strong(n)) for n in range(20)])
    found = _evaluate(data, tiny, "--plot", tmp_path / "curves.png")
    assert found["apgr"] is found["cpt50"] is found["cpt80"] is None
    assert found["ece"] is not None
    assert found["advantage"] == {}
    assert any("no APGR" in note for note in found["notes"])


@pytest.mark.parametrize("weak", [True, False])
def test_one_outcome_only_leaves_auroc_out(tiny: Path, tmp_path: Path, weak: bool) -> None:
    data = _write(tmp_path / "rows.jsonl", [_row(n, weak, True) for n in range(12)])
    found = _evaluate(data, tiny, "--plot", tmp_path / "curves.png")
    assert found["auroc"] is None
    assert found["weak_accuracy"] == weak


def test_a_single_row_and_a_single_domain_are_measured(tiny: Path, tmp_path: Path) -> None:
    found = _evaluate(_write(tmp_path / "rows.jsonl", [_row(1, False, True)]), tiny)
    assert found["rows"] == 1
    assert found["apgr"] == pytest.approx(0.5)
    assert found["by_source"] == {}


def test_a_huge_prompt_is_measured(tiny: Path, tmp_path: Path) -> None:
    huge = _row(1, False, True) | {"prompt": "¿qué? 何 " * 300_000}
    data = _write(tmp_path / "rows.jsonl", [huge, _row(2, True, True)])
    assert _evaluate(data, tiny)["rows"] == 2


def test_a_better_order_is_reported_as_better() -> None:
    data = dataset.read(SAMPLE)
    oracle = data.strong.astype(float) - data.weak
    # Distinct scores, so that the rows can be escalated one by one.
    wrong = np.where(data.weak, 0.0, 1.0 - 1e-6 * np.arange(len(data.rows)))
    found = report(Predictions(wrong, oracle), data, Setting(resampling=Resampling(100)))
    assert found.apgr == pytest.approx(found.baselines[baselines.ORACLE].apgr)
    assert found.ece == pytest.approx(0, abs=1e-3)
    assert found.auroc == pytest.approx(1)
    interval = found.advantage[baselines.RANDOM].interval
    assert interval is not None
    assert interval[0] > 0
    assert found.escalation is not None
    assert found.escalation.needed == pytest.approx(found.escalation.least, abs=1 / len(data.rows))


def test_a_domain_mean_of_its_own_rows_says_nothing_where_domains_say_nothing() -> None:
    generator = np.random.default_rng(0)
    rows = [
        LabeledRow(f"p{n}", bool(generator.random() < 0.5), bool(generator.random() < 0.9), "one")
        for n in range(2000)
    ]
    data = dataset.Dataset("rows", "0", rows)
    score = baselines.cross_fitted_means(data)
    assert metrics.apgr(score, data.weak, data.strong) == pytest.approx(0.5, abs=0.03)


def test_each_prompt_is_assessed_by_itself() -> None:
    class Counting:
        revision = "r"
        prior = Assessment(0.5, 0.0, 0, ())

        def __init__(self) -> None:
            self.sizes: list[int] = []

        def assess(self, texts: Any) -> list[Assessment]:
            self.sizes.append(len(texts))
            return [Assessment(0.25, 0.1, 1, ()) for _ in texts]

    data = dataset.read(SAMPLE)
    counting = Counting()
    found = evaluation.predict(counting, data)
    assert set(found.complexity.tolist()) == {0.25}
    assert counting.sizes == [1] * len(data.rows)


def test_calibrate_brings_the_probabilities_down_to_what_is_seen(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "fitted"
    result = _invoke("calibrate", "--data", SAMPLE, "--artifact", tiny, "--out", out, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["rows"] == 207
    assert found["after"]["ece"] < found["before"]["ece"]
    assert found["after"]["brier"] < found["before"]["brier"]
    fitted = Classifier.load(out)
    assert fitted.revision == found["revision"] != Classifier.load(tiny).revision
    data = dataset.read(SAMPLE)
    said = evaluation.predict(fitted, data).complexity
    assert said.mean() == pytest.approx((~data.weak).mean(), abs=0.01)


def test_calibrate_leaves_the_weights_and_the_order_alone(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "fitted"
    _invoke("calibrate", "--data", SAMPLE, "--artifact", tiny, "--out", out)
    before, after = artifacts.verify(tiny), artifacts.verify(out)
    assert after.files == before.files
    assert after.calibration != before.calibration
    assert set(after.conformal) == {"fit", "unfit", "rows"}
    prompts = dataset.read(SAMPLE).prompts[:20]
    pairs = [Classifier.load(folder).assess(prompts) for folder in (tiny, out)]
    assert [a.gain for a in pairs[0]] == [a.gain for a in pairs[1]]
    orders = [np.argsort([a.complexity for a in found], kind="stable").tolist() for found in pairs]
    assert orders[0] == orders[1]


def test_calibrating_again_changes_next_to_nothing(tiny: Path, tmp_path: Path) -> None:
    once, twice = tmp_path / "once", tmp_path / "twice"
    _invoke("calibrate", "--data", SAMPLE, "--artifact", tiny, "--out", once)
    _invoke("calibrate", "--data", SAMPLE, "--artifact", once, "--out", twice)
    first, second = (artifacts.verify(folder).calibration for folder in (once, twice))
    assert (first.slope, first.intercept) == pytest.approx((second.slope, second.intercept), abs=1e-3)


def test_calibrate_takes_feedback_about_the_small_model(tiny: Path, tmp_path: Path) -> None:
    rows = [_row(n, n % 3 > 0, True) | {"strong_correct": None} for n in range(60)]
    data = _write(tmp_path / "rows.jsonl", [*rows, {**_row(99, True, True), "weak_correct": None}])
    result = _invoke("calibrate", "--data", data, "--artifact", tiny, "--out", tmp_path / "out", "--json")
    assert json.loads(result.stdout)["rows"] == 60


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ([_row(n, n % 2 > 0, True) for n in range(29)], "30 are needed"),
        ([_row(n, True, True) for n in range(40)], "5 wrong answers are needed"),
        ([_row(n, n < 4, True) for n in range(40)], "5 right and"),
        ([_row(1, n % 2 > 0, True) for n in range(60)], "30 are needed"),
    ],
    ids=["few", "one outcome", "few right", "contradictory"],
)
def test_labels_that_cannot_calibrate_are_refused(
    tiny: Path, tmp_path: Path, rows: Sequence[Mapping[str, object]], why: str
) -> None:
    data, out = _write(tmp_path / "rows.jsonl", rows), tmp_path / "out"
    assert why in _refused("--data", data, "--artifact", tiny, "--out", out, command="calibrate")
    assert not out.exists()


def test_calibrate_does_not_overwrite_its_source(tiny: Path) -> None:
    assert "another folder" in _refused(
        "--data", SAMPLE, "--artifact", tiny, "--out", tiny, command="calibrate"
    )


def test_a_classifier_that_orders_backwards_keeps_no_slope(tiny: Path, tmp_path: Path) -> None:
    # The tiny one calls prompts with many numbers hard; here those with few are.
    rows = [_row(n, n % 7 > 3, True) | {"prompt": f"row{n} " + "1 " * (n % 7)} for n in range(70)]
    out = tmp_path / "out"
    _invoke("calibrate", "--data", _write(tmp_path / "rows.jsonl", rows), "--artifact", tiny, "--out", out)
    said = Classifier.load(out).assess(["a", "1 2 3 4 5 6 " * 9])
    assert [a.complexity for a in said] == pytest.approx([4 / 7, 4 / 7], abs=1e-4)
