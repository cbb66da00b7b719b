"""Repeated, contradictory and leaked rows; splits by prompt hash and by domain."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.router.training import dataset
from weir.router.training.dataset import Dataset
from weir.router.training.duplicates import deduplicated, leaked, nearly, prompt_key, without_leaks
from weir.router.training.labels import LabeledRow
from weir.router.training.splits import split

SAMPLE = Path(__file__).parent.parent / "data" / "routing_sample.jsonl"
LONG = (
    "A train leaves the station at noon with forty passengers and stops in nine towns on its way north, " * 2
)


def _data(*rows: LabeledRow) -> Dataset:
    return Dataset("rows.jsonl", "0", rows)


def _row(
    prompt: str, weak: bool | None = True, strong: bool | None = True, domain: str = "d", weight: float = 1.0
) -> LabeledRow:
    return LabeledRow(prompt, weak, strong, domain, "", weight)


@pytest.mark.parametrize("other", ["What IS it?", " what\n is  it? ", "what is it\uff1f"])
def test_case_spaces_and_unicode_form_make_no_other_prompt(other: str) -> None:
    assert prompt_key(other) == prompt_key("what is it?")
    assert prompt_key("what is that?") != prompt_key("what is it?")


def test_repeated_rows_are_merged_at_their_first_place() -> None:
    found = deduplicated(_data(_row("a"), _row("b"), _row("A ")))
    assert [row.prompt for row in found.rows] == ["a", "b"]
    assert found.notes == ("rows.jsonl: merged 1 repeated rows",)


def test_rows_that_know_one_model_each_are_joined() -> None:
    found = deduplicated(_data(_row("a", False, None), _row("a", None, True)))
    assert [(row.weak_correct, row.strong_correct) for row in found.rows] == [(False, True)]


def test_contradictory_labels_are_settled_by_weight() -> None:
    rows = (_row("a", True), _row("a", False), _row("a", False))
    found = deduplicated(_data(*rows))
    assert [row.weak_correct for row in found.rows] == [False]
    heavy = deduplicated(_data(_row("a", True, weight=3.0), *rows[1:]))
    assert [(row.weak_correct, row.weight) for row in heavy.rows] == [(True, 3.0)]
    assert "the labels of 1 prompts contradict each other" in heavy.notes[1]


def test_contradictory_labels_that_balance_are_unknown_and_left_out() -> None:
    found = deduplicated(_data(_row("a", True, True), _row("a", False, True), _row("b", True, None)))
    assert [(row.prompt, row.weak_correct) for row in found.rows] == [("a", None), ("b", True)]
    both = deduplicated(_data(_row("a", True, False), _row("a", False, True), _row("b")))
    assert [row.prompt for row in both.rows] == ["b"]
    assert "1 of them that balance are left out" in both.notes[1]


@given(st.lists(st.tuples(st.sampled_from("abcAB "), st.booleans(), st.booleans()), min_size=1, max_size=30))
def test_merging_twice_changes_nothing(rows: list[tuple[str, bool, bool]]) -> None:
    once = deduplicated(_data(*(_row(*row) for row in rows)))
    assert deduplicated(once).rows == once.rows
    assert len({prompt_key(row.prompt) for row in once.rows}) == len(once.rows)


def test_a_validation_prompt_leaves_the_training_rows() -> None:
    train, validation = _data(_row("a"), _row("b")), _data(_row(" B"))
    assert leaked(train.prompts, validation.prompts).tolist() == [False, True]
    found = without_leaks(train, validation)
    assert [row.prompt for row in found.rows] == ["a"]
    assert "left out 1 prompts that rows.jsonl has too, and 0 that" in found.notes[0]


def test_a_nearly_equal_prompt_leaves_the_training_rows() -> None:
    train, validation = _data(_row(LONG + "slowly"), _row("another")), _data(_row("Well! " + LONG))
    found = without_leaks(train, validation)
    assert [row.prompt for row in found.rows] == ["another"]
    assert "and 1 that are nearly the same" in found.notes[0]


def test_prompts_of_one_template_are_not_nearly_equal() -> None:
    parts = LONG.split()
    half = " ".join(parts[: len(parts) // 2])
    others = [f"{half} and then {other * 12}" for other in ("red cars wait ", "we eat rye bread ")]
    assert nearly([others[0]], [others[1]]).tolist() == [False]
    assert nearly(["", "short"], ["", "shorter"]).tolist() == [True, False]


def test_distinct_rows_leak_nothing() -> None:
    train = _data(_row("a"))
    assert without_leaks(train, _data(_row("b"))) is train


def test_a_split_shares_no_prompt_and_no_unseen_domain() -> None:
    data = dataset.read(SAMPLE)
    parts = split(data, validation_share=0.3, unseen_share=0.1)
    keys = [{prompt_key(p) for p in part.prompts} for part in (parts.train, parts.validation, parts.unseen)]
    assert not keys[0] & keys[1]
    assert not (keys[0] | keys[1]) & keys[2]
    seen = set(parts.train.subjects) | set(parts.validation.subjects)
    assert set(parts.unseen.subjects)
    assert not seen & set(parts.unseen.subjects)
    assert 0.2 < len(parts.validation.rows) / (len(parts.train.rows) + len(parts.validation.rows)) < 0.4
    assert 0.05 < len(parts.unseen.rows) / len(data.rows) < 0.15


def test_rows_keep_their_part_as_the_data_grows() -> None:
    data = dataset.read(SAMPLE)
    grown = split(
        Dataset("more", "1", [*data.rows, *(_row(f"new {n}", domain="law") for n in range(20))]), 0.3
    )
    before = split(data, 0.3)
    stays = {prompt_key(p) for p in grown.validation.prompts}
    unseen = set(grown.unseen.subjects) | set(before.unseen.subjects)
    kept = [row for row in before.validation.rows if row.domain not in unseen]
    assert kept
    assert all(prompt_key(row.prompt) in stays for row in kept)


@given(
    st.lists(st.tuples(st.integers(0, 99), st.sampled_from(["x", "y", "z"])), min_size=1, max_size=40),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_no_row_is_lost_or_doubled(rows: list[tuple[int, str]], validation: float, unseen: float) -> None:
    data = _data(*(_row(f"prompt number {n}", domain=domain) for n, domain in rows))
    parts = split(data, validation, unseen)
    found = sorted(p for part in (parts.train, parts.validation, parts.unseen) for p in part.prompts)
    assert found == sorted({f"prompt number {n}" for n, _ in rows})
    assert bool(parts.unseen.rows) == (len(set(deduplicated(data).subjects.tolist())) > 1)


def test_one_domain_alone_has_no_unseen_rows_and_says_so() -> None:
    parts = split(_data(_row("a"), _row("b")), 0.5, 0.5)
    assert not parts.unseen.rows
    assert "no unseen one can be measured" in " ".join(parts.train.notes)


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_outside_of_0_to_1_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        split(_data(_row("a")), share)
