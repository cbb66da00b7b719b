"""`weir router replay`: counterfactuals over recorded decisions, held against traces whose truth is known."""

import io
import json
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from typer.testing import CliRunner

from tests.unit import traces
from tests.unit.classifier_doubles import ScriptedClassifier
from tests.unit.traces import COST_USD, MEDIAN_S, alternating, episodes, exported, stored, with_threshold
from weir.cli.main import app
from weir.common.config import Settings
from weir.router.case import Bounds, Case
from weir.router.classifier.model import Classifier
from weir.router.domain import Tier
from weir.router.receipts.records import FeedbackRecord, OutcomeRecord
from weir.router.replay import bar, scenario, simulation
from weir.router.replay.comparison import Row, compare
from weir.router.replay.decisions import Choices, Codes, recorded, replayed
from weir.router.replay.latency import Mixture, measured
from weir.router.replay.rejudging import RejudgingError, rejudge
from weir.router.replay.render import WIDTH, show_comparison, show_course
from weir.router.replay.scenario import ScenarioError, Target, parse_sweep, parse_target, thresholds
from weir.router.replay.simulation import Course, simulate
from weir.router.replay.trace import Trace, TraceError, load_trace
from weir.router.selection import select

SAME = scenario.as_recorded()


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Trace:
    """Two thresholds in force by turns, half of the answers labeled."""
    folder = tmp_path_factory.mktemp("trace")
    bounds = alternating(with_threshold(0.6), with_threshold(0.75))
    return load_trace(stored(folder, episodes(1200, labeled=0.5, bounds=bounds)))


def rows_of(trace: Trace, *asked: scenario.Scenario) -> list[Row]:
    return compare(trace.episodes, asked, resamples=60)


# -- reading --


def test_a_database_and_its_export_are_the_same_trace(tmp_path: Path) -> None:
    path = exported(tmp_path, episodes(50, labeled=0.5))
    one, other = load_trace(tmp_path / "receipts.sqlite3"), load_trace(path)
    assert one.episodes == other.episodes
    assert len(one.episodes) == 50
    assert one.verified
    assert other.verified


def test_a_replay_leaves_the_database_as_it_was(tmp_path: Path) -> None:
    path = stored(tmp_path, episodes(20))
    before = path.read_bytes()
    load_trace(path)
    assert path.read_bytes() == before


def test_a_changed_receipt_is_refused_unless_asked_for(tmp_path: Path) -> None:
    path = stored(tmp_path, episodes(20))
    with closing(sqlite3.connect(path)) as database, database:
        body = database.execute("SELECT body FROM weir_receipts WHERE sequence = 8").fetchone()[0]
        changed = body.replace(b'"completion_tokens":100', b'"completion_tokens":900')
        assert changed != body
        database.execute("UPDATE weir_receipts SET body = ? WHERE sequence = 8", (changed,))
    with pytest.raises(TraceError, match="hash chain is broken: receipt 8"):
        load_trace(path)
    trusted = load_trace(path, unverified=True)
    assert not trusted.verified
    assert len(trusted.episodes) == 20
    assert "receipt 8" in trusted.notes[0]


def test_a_line_taken_out_of_an_export_is_refused(tmp_path: Path) -> None:
    path = exported(tmp_path, episodes(20))
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:5] + lines[6:]))
    with pytest.raises(TraceError, match="receipt 6 is missing"):
        load_trace(path)
    assert len(load_trace(path, unverified=True).episodes) in (19, 20)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(b"", "is empty", id="empty"),
        pytest.param(b"{}\n", "weir router audit", id="another log"),
        pytest.param(b"\xff\xfe\x00", "weir router audit", id="binary"),
        pytest.param(b"SQLite format 3\x00" + bytes(2000), "holds no receipts", id="broken database"),
    ],
)
def test_what_is_no_trace_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "trace"
    path.write_bytes(content)
    with pytest.raises(TraceError, match=said):
        load_trace(path)


def test_a_database_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.sqlite3"
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE songs (title TEXT)")
    with pytest.raises(TraceError, match="holds no receipts"):
        load_trace(path)


def test_decisions_of_another_version_are_left_out_and_counted(tmp_path: Path) -> None:
    records = episodes(10)
    strange = msgspec.structs.replace(
        traces.decision("x", 0.0, Tier.SLM, traces.a_case(0.5), Bounds()), case={}
    )
    found = load_trace(stored(tmp_path, [*records, strange]))
    assert len(found.episodes) == 10
    assert found.notes == ("1 decisions of another version are left out",)


def test_decisions_that_this_version_makes_otherwise_are_counted(tmp_path: Path) -> None:
    strange = traces.decision("x", 0.0, Tier.FRONTIER, traces.a_case(0.1), Bounds())
    found = load_trace(stored(tmp_path, [*episodes(10), strange]))
    assert found.notes[0].startswith("1 decisions come out differently")


def test_labels_are_averaged_and_scores_of_another_scale_do_not_count(tmp_path: Path) -> None:
    records = episodes(1)
    name = "d00000"
    labels = [
        FeedbackRecord(name, 1.0, True),
        FeedbackRecord(name, 1.0, False),
        FeedbackRecord(name, 1.0, score=7),
    ]
    assert load_trace(stored(tmp_path, [*records, *labels])).episodes[0].label == 0.5


# -- counterfactuals --


def test_the_recorded_bounds_decide_again_as_they_did(trace: Trace) -> None:
    actual, again = rows_of(trace, SAME)
    assert again.changed == 0
    assert again.shares == actual.shares
    assert again.cost_usd.value == actual.cost_usd.value
    assert again.first_token_p95_s == actual.first_token_p95_s


def test_a_lower_threshold_costs_what_its_decisions_cost(trace: Trace) -> None:
    actual, lower = rows_of(trace, thresholds(0.4, None))
    tiers = [select(e.case, with_threshold(0.4)).order[0] for e in trace.episodes]
    assert lower.cost_usd.value == pytest.approx(np.mean([COST_USD[tier] for tier in tiers]))
    assert lower.changed == sum(tier is not e.tier for tier, e in zip(tiers, trace.episodes, strict=True))
    assert lower.saved_usd.value == pytest.approx((actual.cost_usd.value or 0) - (lower.cost_usd.value or 0))
    assert lower.shares["frontier"] > actual.shares["frontier"]


def test_moves_are_named_with_examples(trace: Trace) -> None:
    _, lower = rows_of(trace, thresholds(0.4, None))
    change = lower.changes[0]
    assert (change.source, change.target) == ("hybrid", "frontier")
    by_id = {episode.decision_id: episode for episode in trace.episodes}
    for name in change.examples:
        assert by_id[name].tier is Tier.HYBRID
        assert by_id[name].case.complexity >= 0.4


def test_times_of_a_changed_tier_come_from_its_own_measurements(trace: Trace) -> None:
    _, everything = rows_of(trace, thresholds(0.0, None))
    assert everything.shares["frontier"] == 1
    assert everything.first_token_p50_s.value == pytest.approx(MEDIAN_S[Tier.FRONTIER], rel=0.1)
    assert everything.total_p50_s.value == pytest.approx(2 * MEDIAN_S[Tier.FRONTIER], rel=0.1)


def test_intervals_hold_the_estimate_and_pairing_narrows_the_saving(trace: Trace) -> None:
    _, row = rows_of(trace, thresholds(0.65, None))
    for value in (row.cost_usd, row.saved_usd, row.first_token_p95_s, row.quality, row.labels.mean):
        assert value.low is not None
        assert value.high is not None
        assert value.value is not None
        assert value.low <= value.value <= value.high
    saved, cost = row.saved_usd, row.cost_usd
    assert (saved.high or 0) - (saved.low or 0) < (cost.high or 0) - (cost.low or 0)


def test_a_tier_without_measurements_counts_by_its_estimates_or_not_at_all(tmp_path: Path) -> None:
    records = episodes(100, bounds=lambda index: with_threshold(1.0))
    found = load_trace(stored(tmp_path, records))
    _, unknown = rows_of(found, thresholds(0.0, None))
    assert unknown.first_token_p95_s.value is None
    assert unknown.unknown_latency == 100
    slow = tuple(replace(episode, case=_expecting(episode.case, 9.0)) for episode in found.episodes)
    assert compare(slow, [thresholds(0.0, None)], resamples=5)[1].first_token_p95_s.value == 9.0


def _expecting(case: Case, seconds: float) -> Case:
    estimates = {tier: replace(each, first_token_s=seconds) for tier, each in case.estimates.items()}
    return replace(case, estimates=estimates)


def test_answers_that_another_tier_finished_do_not_count_as_the_tiers_own_times(tmp_path: Path) -> None:
    records = episodes(60)
    handed = [
        msgspec.structs.replace(record, handovers=1, first_token_s=99.0)
        if isinstance(record, OutcomeRecord) and index % 5 == 0
        else record
        for index, record in enumerate(records)
    ]
    found = load_trace(stored(tmp_path, handed))
    assert np.nanmax(measured(found.episodes).first_token_s) < 10


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.floats(0.01, 5)), min_size=1, max_size=80))
def test_a_mixture_keeps_all_weight_and_its_quantiles_stay_among_the_times(
    drawn: list[tuple[int, int, float]],
) -> None:
    tiers = np.array([was for was, _, _ in drawn], np.int8)
    times = np.array([seconds for _, _, seconds in drawn])
    choices = _choices(np.array([then for _, then, _ in drawn], np.int8))
    mixture = Mixture(times, tiers, choices, choices.first_token_s)
    low, middle, high = mixture.quantiles([0.0, 0.5, 1.0], np.ones(len(drawn)))
    assert times.min() <= low <= middle <= high <= 7.0
    assert mixture.unknown == 0


def _choices(tiers: Codes) -> Choices:
    return Choices(tiers, *(np.full(len(tiers), value) for value in (0.0, 0.5, 7.0, 7.0)))


# -- feedback --


@pytest.mark.parametrize("threshold", [0.6, 0.75])
def test_feedback_estimates_the_truth_where_there_is_overlap(trace: Trace, threshold: float) -> None:
    _, row = rows_of(trace, thresholds(threshold, None))
    truth = np.mean(
        [e.case.estimates[select(e.case, with_threshold(threshold)).order[0]].quality for e in trace.episodes]
    )
    found = row.labels
    assert found.refusal == ""
    assert found.without_overlap == 0
    # Half of the cases where the thresholds differ count twice, so the sample is worth less than its size.
    labeled = sum(episode.label is not None for episode in trace.episodes)
    assert 0.6 * labeled < found.effective_sample < labeled
    assert found.mean.value == pytest.approx(truth, abs=0.06)


def test_feedback_is_refused_without_overlap(trace: Trace) -> None:
    _, row = rows_of(trace, thresholds(0.2, None))
    assert row.labels.mean.value is None
    assert row.labels.without_overlap > 0.2
    assert "no overlap" in row.labels.refusal


def test_feedback_is_refused_on_too_few_labels(tmp_path: Path) -> None:
    found = load_trace(stored(tmp_path, episodes(200, labeled=0.08)))
    _, row = rows_of(found, SAME)
    assert row.labels.mean.value is None
    assert "too few" in row.labels.refusal


def test_a_trace_without_feedback_says_so(tmp_path: Path) -> None:
    actual, row = rows_of(load_trace(stored(tmp_path, episodes(50))), SAME)
    assert (actual.labels.refusal, row.labels.refusal) == ("no labels", "no labels")


# -- targets --


def test_a_cost_target_is_held_by_the_highest_bar(trace: Trace) -> None:
    target = Target("cost", 0.001)
    held = bar.settle(target, trace.episodes)
    choices = replayed(trace.episodes, held)
    assert choices.cost_usd.mean() <= 0.001
    looser = replayed(trace.episodes, bar.settle(Target("cost", 0.002), trace.episodes))
    assert choices.cost_usd.mean() < looser.cost_usd.mean()
    assert choices.quality.mean() < looser.quality.mean()


def test_a_latency_target_is_held_in_milliseconds(trace: Trace) -> None:
    held = bar.settle(Target("latency", 500), trace.episodes)
    choices = replayed(trace.episodes, held)
    mixture = Mixture(
        measured(trace.episodes).first_token_s, recorded(trace.episodes).tiers, choices, choices.first_token_s
    )
    assert mixture.quantiles([0.95], np.ones(len(trace.episodes)))[0] <= 0.5


def test_a_target_out_of_reach_says_so(trace: Trace) -> None:
    assert "out of reach" in bar.settle(Target("latency", 1), trace.episodes).note


@pytest.mark.parametrize(
    "text", ["quality", "quality=2", "speed=3", "cost=nan", "latency=-1", "quality=high"]
)
def test_what_is_no_target_is_refused(text: str) -> None:
    with pytest.raises(ScenarioError, match="target"):
        parse_target(text)


def test_a_sweep_includes_both_ends() -> None:
    assert parse_sweep("0.4:0.9:0.1") == [0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    assert parse_sweep("0.5:0.5:1") == [0.5]


@pytest.mark.parametrize(
    "text", ["0.4", "0.9:0.4:0.1", "0:1:0", "0:1:0.0001", "a:b:c", "0:2:0.5", "nan:1:0.1"]
)
def test_what_is_no_sweep_is_refused(text: str) -> None:
    with pytest.raises(ScenarioError):
        parse_sweep(text)


# -- another classifier --


def test_another_classifier_reads_the_kept_prompts(tmp_path: Path) -> None:
    found = load_trace(stored(tmp_path, episodes(30, prompts=True)))
    judged = rejudge(found, ScriptedClassifier(), recovered_gain=0.5)
    assert {case.complexity for case in judged.cases} == {0.1}
    assert judged.cases[0].estimates[Tier.SLM].quality == pytest.approx(0.9)
    assert judged.cases[0].estimates[Tier.HYBRID].quality == pytest.approx(1.0)
    again = scenario.under(SAME, judged.cases, judged.revision)
    assert replayed(judged.trace.episodes, again).shares()["slm"] == 1


def test_without_prompts_another_classifier_is_refused(tmp_path: Path) -> None:
    found = load_trace(stored(tmp_path, episodes(10)))
    with pytest.raises(RejudgingError, match="store_prompts"):
        rejudge(found, ScriptedClassifier(), recovered_gain=0.5)


def test_decisions_without_a_kept_prompt_are_left_out_and_counted(tmp_path: Path) -> None:
    some = episodes(5, prompts=True)
    others = [msgspec.structs.replace(record, decision_id=f"x{record.decision_id}") for record in episodes(3)]
    judged = rejudge(load_trace(stored(tmp_path, [*some, *others])), ScriptedClassifier(), recovered_gain=0.5)
    assert len(judged.trace.episodes) == len(judged.cases) == 5
    assert judged.trace.notes == ("3 decisions without a kept prompt are left out",)


# -- the controller --


@pytest.fixture(scope="module")
def slowed(tmp_path_factory: pytest.TempPathFactory) -> Trace:
    """The frontier takes five times as long from minute 10 on, to the end."""
    folder = tmp_path_factory.mktemp("slowed")
    slower = lambda at, tier: 5.0 if tier is Tier.FRONTIER and at > 600 else 1.0  # noqa: E731
    return load_trace(stored(folder, episodes(1500, slower=slower)))


def held_at(seconds: float) -> Settings:
    dynamic = {"enabled": True, "target": seconds, "metric": "p95_latency"}
    return Settings.model_validate({"routing": {"dynamic_adjustment": dynamic}})


@pytest.fixture(scope="module")
def course(slowed: Trace) -> Course:
    return simulate(slowed.episodes, held_at(0.7))


def test_the_controller_would_have_moved_traffic_off_a_tier_that_slowed_down(course: Course) -> None:
    first = course.moves[0]
    assert 600 < first.at - course.start <= 600 + 300
    late = [span for span in course.spans if span.start_s >= 900]
    assert (
        sum(span.shares["frontier"] for span in late)
        < sum(s.shares["frontier"] for s in course.spans[:8]) / 2
    )
    for span in late:
        assert span.p95_recorded_s is not None
        assert span.p95_controlled_s is not None
        assert span.p95_controlled_s < span.p95_recorded_s
    assert course.whole.cost_controlled_usd < course.whole.cost_recorded_usd


def test_a_target_that_is_kept_anyway_moves_nothing(slowed: Trace) -> None:
    course = simulate(slowed.episodes, held_at(60))
    assert course.moves == []
    assert course.changed == 0
    assert course.whole.cost_controlled_usd == pytest.approx(course.whole.cost_recorded_usd)


def test_a_course_is_the_same_each_time(slowed: Trace) -> None:
    part = slowed.episodes[600:900]
    assert simulate(part, held_at(0.7)) == simulate(part, held_at(0.7))


def test_of_a_trace_that_is_too_long_the_end_is_run(slowed: Trace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulation, "MAX_LOOKS", 4)
    # Four dwell times of 75 seconds, and the first of the queries one each second.
    run = simulate(slowed.episodes, held_at(0.7))
    assert (run.whole.queries, run.left_out) == (301, 1199)


def test_time_without_traffic_is_skipped(tmp_path: Path) -> None:
    found = load_trace(stored(tmp_path, episodes(20, every_s=86_400.0)))
    assert simulate(found.episodes, held_at(0.7)).whole.queries == 20


# -- the command --


def test_tables_fit_a_hundred_columns(trace: Trace, course: Course) -> None:
    asked = [thresholds(value, 0.7) for value in (0.4, 0.5)]
    console = Console(width=WIDTH, record=True, file=io.StringIO())
    show_comparison(trace, rows_of(trace, *asked), console)
    show_course(trace, course, console)
    text = console.export_text()
    assert max(len(line.rstrip()) for line in text.splitlines()) <= WIDTH
    assert "threshold 0.4," in text
    assert "HYBRID → FRONTIER" in text
    assert "more load on a tier is not simulated" in " ".join(text.split())


def test_the_command_prints_one_json_object(tmp_path: Path) -> None:
    path = stored(tmp_path, episodes(100, labeled=0.5))
    result = CliRunner().invoke(
        app, ["router", "replay", str(path), "--sweep", "0.5:0.7:0.1", "--target", "quality=0.9", "--json"]
    )
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    names = [row["name"] for row in found["rows"]]
    assert names == ["as recorded", "threshold 0.5", "threshold 0.6", "threshold 0.7", "quality=0.9"]
    assert found["verified"] is True


def test_the_command_replays_the_controller(tmp_path: Path) -> None:
    path = stored(tmp_path, episodes(100))
    result = CliRunner().invoke(
        app, ["router", "replay", str(path), "--controller", "--target", "latency=500", "--json"]
    )
    assert result.exit_code == 0, result.output
    course = json.loads(result.stdout)["course"]
    assert course["target"] == 0.5
    assert sum(span["queries"] for span in course["spans"]) == 100


def test_the_command_compares_with_another_classifier(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Classifier, "load", lambda folder=None: ScriptedClassifier("r2"))
    path = stored(tmp_path, episodes(40, prompts=True))
    asked = ["--threshold", "0.6", "--classifier", str(tmp_path), "--json"]
    result = CliRunner().invoke(app, ["router", "replay", str(path), *asked])
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)["rows"]
    assert [row["name"] for row in rows[1:]] == [
        "threshold 0.6",
        "bounds as recorded, r2",
        "threshold 0.6, r2",
    ]
    assert rows[3]["shares"]["slm"] == 1


def test_the_command_draws(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the extra `train` is not installed")
    path = stored(tmp_path, episodes(60))
    for name, asked in (("sweep.png", ["--threshold", "0.6"]), ("course.png", ["--controller"])):
        picture = tmp_path / name
        result = CliRunner().invoke(app, ["router", "replay", str(path), *asked, "--plot", str(picture)])
        assert result.exit_code == 0, result.output
        assert picture.read_bytes().startswith(b"\x89PNG")


def test_the_command_says_what_is_wrong_in_one_sentence(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["router", "replay", str(tmp_path / "absent")])
    assert result.exit_code == 1
    assert "cannot be read" in result.stderr
    path = stored(tmp_path, episodes(5))
    copied = tmp_path / "copy.sqlite3"
    shutil.copy(path, copied)
    result = CliRunner().invoke(
        app, ["router", "replay", str(copied), "--plot", str(tmp_path / "a" / "b.png")]
    )
    assert result.exit_code == 1
    assert "cannot be written" in result.stderr
