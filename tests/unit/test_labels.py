"""Labels of three kinds, and what is wrong with lines that are none."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from weir.router.receipts.records import DecisionRecord, FeedbackRecord, OutcomeRecord, Receipt, Record
from weir.router.training import dataset
from weir.router.training.dataset import Dataset, DatasetError
from weir.router.training.labels import Roles

SAMPLE = Path(__file__).parent.parent / "data" / "routing_sample.jsonl"
ROLES = Roles(weak=("small",), strong=("large",))
GOOD = {"prompt": "a", "domain": "d", "source": "s", "weak_correct": True, "strong_correct": False}


def _read(folder: Path, *lines: object, roles: Roles = ROLES) -> Dataset:
    path = folder / "rows.jsonl"
    text = (line if isinstance(line, str) else json.dumps(line) for line in lines)
    path.write_text("\n".join(text), encoding="utf-8")
    return dataset.read(path, roles)


def _outcomes(data: Dataset) -> list[tuple[bool | None, bool | None]]:
    return [(row.weak_correct, row.strong_correct) for row in data.rows]


def test_the_sample_reads_as_arrays_of_one_length() -> None:
    data = dataset.read(SAMPLE)
    columns = (data.weak, data.strong, data.subjects, data.groups, data.sources, data.weights)
    assert {len(column) for column in columns} == {len(data.rows)} == {207}
    assert data.notes == ()
    assert len(data.complete.rows) == 207


def test_correctness_of_two_models_reads_as_it_stands(tmp_path: Path) -> None:
    row = _read(tmp_path, GOOD | {"more": 1}).rows[0]
    assert (row.prompt, row.weak_correct, row.strong_correct) == ("a", True, False)
    assert (row.domain, row.source, row.weight) == ("d", "s", 1.0)


def test_correctness_of_many_models_takes_the_named_two(tmp_path: Path) -> None:
    line = {"prompt": "a", "models": {"small": False, "large": True, "other": True}}
    assert _outcomes(_read(tmp_path, line)) == [(False, True)]


def test_a_model_that_is_missing_leaves_its_outcome_unknown(tmp_path: Path) -> None:
    data = _read(tmp_path, {"prompt": "a", "models": {"large": True}}, GOOD)
    assert _outcomes(data) == [(None, True), (True, False)]
    assert data.knows_weak.tolist() == [False, True]
    assert data.knows_strong.tolist() == [True, True]
    assert len(data.complete.rows) == 1
    with pytest.raises(DatasetError, match="1 of 2 rows do not say weak_correct"):
        _ = data.weak


@pytest.mark.parametrize(
    ("models", "winner", "outcome"),
    [
        (("small", "large"), "model_a", (True, False)),
        (("small", "large"), "b", (False, True)),
        (("large", "small"), "a", (False, True)),
        (("large", "small"), "model_b", (True, False)),
        (("small", "large"), "tie", (True, True)),
        (("large", "small"), "tie (bothbad)", (False, False)),
    ],
)
def test_a_preference_says_who_would_do(
    tmp_path: Path, models: tuple[str, str], winner: str, outcome: tuple[bool, bool]
) -> None:
    line = {"prompt": "a", "model_a": models[0], "model_b": models[1], "winner": winner}
    assert _outcomes(_read(tmp_path, line)) == [outcome]


def test_rows_about_other_models_are_passed_over_and_counted(tmp_path: Path) -> None:
    other = {"prompt": "a", "model_a": "small", "model_b": "third", "winner": "a"}
    data = _read(tmp_path, other, {"prompt": "b", "models": {"third": True}}, GOOD)
    assert len(data.rows) == 1
    assert data.notes == ("rows.jsonl: passed over 2 rows about other models",)


def test_models_without_roles_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        DatasetError, match=r"line 1: it names models \(large, small\); .*--weak and --strong"
    ):
        _read(tmp_path, {"prompt": "a", "models": {"small": True, "large": True}}, roles=Roles())


def test_a_model_cannot_have_both_roles(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="small cannot be both"):
        _read(tmp_path, {"prompt": "a", "models": {"small": True}}, roles=Roles(("small",), ("small",)))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"prompt": "a"}', "weak_correct"),
        ('{"weak_correct": true, "strong_correct": true}', "prompt"),
        (json.dumps(GOOD | {"weak_correct": 1}), "Expected `bool"),
        (json.dumps(GOOD | {"strong_correct": "true"}), "Expected `bool"),
        (json.dumps(GOOD | {"prompt": ["a"]}), "Expected `str`"),
        (json.dumps(GOOD | {"prompt": " \n\t"}), "its prompt is empty"),
        (json.dumps(GOOD | {"weight": 0}), "> 0"),
        (json.dumps(GOOD | {"weight": "heavy"}), "Expected `float`"),
        ("not json", "malformed"),
        ("[1]", "no JSON object"),
        ('{"prompt": "a", "model_a": "small", "model_b": "large", "winner": "c"}', "winner is none of a"),
        ('{"prompt": "a", "model_a": "small", "winner": "a"}', "model_b"),
        ('{"prompt": "a", "models": {"small": "yes"}}', "Expected `bool`"),
        ('{"record": {"kind": "decision"}}', "weir receipts export"),
    ],
)
def test_a_line_that_is_no_label_is_named_with_what_is_wanted(
    tmp_path: Path, line: str, message: str
) -> None:
    with pytest.raises(DatasetError) as raised:
        _read(tmp_path, GOOD, "", line)
    assert "line 3: " in str(raised.value)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    "content",
    [b'{"prompt": "\xff", "weak_correct": true, "strong_correct": true}', b'\xff\xfe{"prompt": "a"}'],
    ids=["inside a prompt", "another encoding"],
)
def test_what_is_no_utf8_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match="line 1"):
        dataset.read(path)


def test_half_a_surrogate_pair_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="line 1"):
        _read(tmp_path, '{"prompt": "a\\ud800b", "weak_correct": true, "strong_correct": true}')


def test_a_byte_order_mark_and_windows_lines_are_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(GOOD).encode() + b"\r\n\r\n" + json.dumps(GOOD).encode())
    assert len(dataset.read(path).rows) == 2


def test_a_prompt_of_ten_megabytes_is_read_whole(tmp_path: Path) -> None:
    prompt = "многая лета 万歳 " * 400_000
    assert _read(tmp_path, GOOD | {"prompt": prompt}).rows[0].prompt == prompt


@pytest.mark.parametrize("content", ["", "\n \n"])
def test_a_file_without_rows_is_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(DatasetError, match="no rows that could be used"):
        _read(tmp_path, content)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="No such file"):
        dataset.read(tmp_path / "nothing.jsonl")


def _decision(identifier: str, tier: str, prompt: str | None = "What is 2 + 2?") -> DecisionRecord:
    return DecisionRecord(
        decision_id=identifier,
        request_id="r",
        tenant="",
        at=1.0,
        tier=tier,
        model="m",
        order=[tier],
        case={},
        bounds={},
        signals={"domain": "math"},
        reasons=[],
        revisions={},
        confidence=0.5,
        prompt_tokens=3,
        prompt=prompt,
    )


def _outcome(identifier: str, tier: str, handovers: int = 0) -> OutcomeRecord:
    return OutcomeRecord(identifier, 2.0, "finished", tier, handovers=handovers)


def _verdict(
    identifier: str, acceptable: bool | None = None, score: float | None = None, at: float = 3.0
) -> FeedbackRecord:
    return FeedbackRecord(identifier, at, acceptable, score)


def _trace(folder: Path, *records: Record) -> Dataset:
    receipts = (Receipt(number, "0", record) for number, record in enumerate(records))
    return _read(folder, *(msgspec.json.encode(receipt).decode() for receipt in receipts))


@pytest.mark.parametrize(
    ("tier", "verdict", "outcome"),
    [
        ("slm", _verdict("d", acceptable=False), (False, None)),
        ("slm", _verdict("d", acceptable=True, score=0.1), (True, None)),
        ("slm", _verdict("d", score=0.2), (False, None)),
        ("frontier", _verdict("d", acceptable=True), (None, True)),
        ("frontier", _verdict("d", score=0.5), (None, True)),
    ],
)
def test_feedback_tells_of_the_tier_that_answered(
    tmp_path: Path, tier: str, verdict: FeedbackRecord, outcome: tuple[bool | None, bool | None]
) -> None:
    data = _trace(tmp_path, _decision("d", "slm"), _outcome("d", tier), verdict)
    assert _outcomes(data) == [outcome]
    assert (data.rows[0].prompt, data.rows[0].domain, data.rows[0].source) == (
        "What is 2 + 2?",
        "math",
        "feedback",
    )


def test_feedback_may_precede_its_decision_and_lack_an_outcome(tmp_path: Path) -> None:
    assert _outcomes(_trace(tmp_path, _verdict("d", acceptable=True), _decision("d", "frontier"))) == [
        (None, True)
    ]


def test_of_several_verdicts_the_last_counts(tmp_path: Path) -> None:
    later, earlier = _verdict("d", acceptable=False, at=9.0), _verdict("d", acceptable=True, at=3.0)
    assert _outcomes(_trace(tmp_path, _decision("d", "slm"), later, earlier)) == [(False, None)]


@pytest.mark.parametrize(
    ("records", "why"),
    [
        ((_decision("d", "slm", prompt=None), _verdict("d", acceptable=True)), "prompt was not kept"),
        ((_verdict("d", acceptable=True),), "prompt was not kept"),
        ((_decision("d", "slm"), _verdict("d")), "without a verdict"),
        ((_decision("d", "hybrid"), _verdict("d", acceptable=False)), "more than one model"),
        (
            (_decision("d", "slm"), _outcome("d", "frontier", 1), _verdict("d", acceptable=False)),
            "more than one model",
        ),
    ],
)
def test_feedback_that_teaches_nothing_is_passed_over(
    tmp_path: Path, records: tuple[Record, ...], why: str
) -> None:
    usable = (_decision("other", "slm"), _verdict("other", acceptable=True))
    data = _trace(tmp_path, *usable, *records)
    assert len(data.rows) == 1
    assert why in data.notes[0]


def test_receipts_without_feedback_have_no_rows(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no rows"):
        _trace(tmp_path, _decision("d", "slm"), _outcome("d", "slm"))


def test_the_three_kinds_may_stand_in_one_file(tmp_path: Path) -> None:
    receipts = [Receipt(1, "0", _decision("d", "slm")), Receipt(2, "0", _verdict("d", acceptable=False))]
    data = _read(
        tmp_path,
        GOOD,
        {"prompt": "b", "model_a": "small", "model_b": "large", "winner": "b"},
        *(msgspec.json.encode(receipt).decode() for receipt in receipts),
    )
    assert _outcomes(data) == [(True, False), (False, True), (False, None)]
