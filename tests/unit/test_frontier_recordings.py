"""Recordings: which answer is found for a prompt, and what makes a file unusable."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.common.config import ConfigError
from weir.frontier_proxy.recordings import Recording, pieces

SAMPLE = Path(__file__).parents[1] / "data" / "replay_sample.jsonl"


def written(folder: Path, *rows: object) -> Path:
    path = folder / "recording.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@given(st.text())
def test_pieces_joined_are_the_text(text: str) -> None:
    cut = pieces(text)
    assert "".join(cut) == text
    assert all(cut)


def test_pieces_are_about_a_vocabularys_tokens() -> None:
    assert pieces("The flower costs $1,250.") == ["The", " flower", " costs", " $", "1", ",", "250", "."]


def test_routing_data_is_played_as_it_is() -> None:
    rows = [json.loads(line) for line in SAMPLE.read_text(encoding="utf-8").splitlines()]
    recording = Recording(SAMPLE)
    assert len(recording) == len(rows)
    assert [recording.find(row["prompt"]).answer for row in rows] == [row["strong_answer"] for row in rows]


def test_white_space_makes_no_other_prompt(tmp_path: Path) -> None:
    recording = Recording(written(tmp_path, *({"prompt": f"p {n}", "answer": f"a {n}"} for n in range(20))))
    assert recording.find("  p\n 7 ").answer == "a 7"


def test_the_first_of_several_answers_to_a_prompt_is_found(tmp_path: Path) -> None:
    rows = [{"prompt": "p", "answer": "first"}, {"prompt": "p", "answer": "second"}]
    assert Recording(written(tmp_path, *rows)).find("p").answer == "first"


@given(st.text())
def test_any_other_prompt_always_has_the_same_answer(prompt: str) -> None:
    assert Recording(SAMPLE).find(prompt) == Recording(SAMPLE).find(prompt)


def test_other_prompts_get_different_answers() -> None:
    recording = Recording(SAMPLE)
    assert len({recording.find(f"question {n}").answer for n in range(200)}) == len(recording)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is empty"),
        ('{"prompt": "p", "answer": "a"}\n\n{"prompt": "p"', "line 3"),
        ('{"answer": "a"}', "line 1.*prompt"),
        ('{"prompt": "p", "answer": ""}', "line 1 has no answer"),
        ('{"prompt": "p", "answer": 7}', "line 1.*answer"),
        ('{"prompt": "p", "answer": "a", "completion_tokens": 0}', "line 1.*completion_tokens"),
    ],
)
def test_an_unusable_file_is_refused_with_its_line(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "recording.jsonl"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=problem):
        Recording(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing\.jsonl cannot be read"):
        Recording(tmp_path / "nothing.jsonl")


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "recording.jsonl"
    path.write_bytes(b'{"prompt": "p", "answer": "\xff"}')
    with pytest.raises(ConfigError, match="line 1"):
        Recording(path)
