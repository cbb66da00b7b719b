"""`weir router audit`: every form of log is recognized and read, and what cannot be is named."""

import codecs
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.router.audit import source
from weir.router.audit.entries import Entry, RowError, parse_time, read_entry
from weir.router.audit.reading import Log, read_log
from weir.router.audit.rows import Kind
from weir.router.audit.source import LogFileError

SAMPLE = Path(__file__).parent.parent / "data" / "logs_sample.jsonl"
ASK = {"messages": [{"role": "user", "content": "Why is the sky blue?"}]}
USAGE = {"prompt_tokens": 12, "completion_tokens": 30}


def written(folder: Path, content: str | bytes, name: str = "log") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def read(folder: Path, content: str | bytes, name: str = "log") -> Log:
    return read_log(written(folder, content, name))


def entry(**row: Any) -> Entry:
    return read_entry("line 1", row)


def test_the_sample_holds_three_forms_and_all_of_its_rows_are_usable() -> None:
    log = read_log(SAMPLE)
    assert (log.kind, log.total, log.unusable) == (Kind.JSON_LINES, 36, 0)
    assert {bool(e.cost_usd) for e in log.entries} == {True, False}
    assert {e.estimated for e in log.entries} == {True, False}
    assert log.first_at is not None
    assert log.last_at is not None
    assert log.last_at - log.first_at > 8 * 86_400


_PARTS = [{"role": "user", "content": [{"type": "input_text", "text": "Why is the sky blue?"}]}]
_FORMS: dict[str, dict[str, Any]] = {
    "chat": {**ASK, "model": "m", "usage": USAGE},
    "request and response": {"request": {**ASK, "model": "m"}, "response": {"usage": USAGE}},
    "batch file": {"custom_id": "1", "method": "POST", "body": {**ASK, "model": "m"}, "usage": USAGE},
    "bodies": {"request": {"body": {**ASK, "model": "m"}}, "response": {"body": {"usage": USAGE}}},
    "prompt": {"prompt": "Why is the sky blue?", "model": "m", **USAGE},
    "LiteLLM": {"model": "m", "messages": json.dumps(ASK["messages"]), "spend": 0.1, **USAGE},
    "Langfuse": {"type": "GENERATION", "input": ASK, "model": "m", "usage": {"input": 12, "output": 30}},
    "Langfuse, details": {
        "input": [*ASK["messages"]],
        "model": "m",
        "usageDetails": {"input": 12, "output": 30},
    },
    "Helicone": {"request_body": {**ASK, "model": "m"}, "response_body": {"usage": USAGE}},
    "input items": {"model": "m", "input": _PARTS, "usage": {"input_tokens": 12, "output_tokens": 30}},
    "contents and parts": {
        "model": "m",
        "contents": [{"role": "user", "parts": [{"text": "Why is the sky blue?"}]}],
        "usageMetadata": {"promptTokenCount": 12, "candidatesTokenCount": 30},
    },
    "from and value": {
        "model": "m",
        "conversations": [{"from": "human", "value": "Why is the sky blue?"}],
        "usage": USAGE,
    },
}


@pytest.mark.parametrize("form", _FORMS)
def test_a_request_is_found_in_every_known_form(form: str) -> None:
    found = entry(**_FORMS[form])
    assert [(m.role, m.content) for m in found.messages] == [("user", "Why is the sky blue?")]
    assert (found.model, found.prompt_tokens, found.completion_tokens) == ("m", 12, 30)
    assert not found.estimated


def test_the_answer_at_the_end_of_a_conversation_is_not_part_of_the_prompt() -> None:
    turns = [
        {"role": "system", "content": "Be brief."},
        *ASK["messages"],
        {"role": "assistant", "content": "x" * 40},
    ]
    found = entry(messages=turns)
    assert [message.role for message in found.messages] == ["system", "user"]
    assert found.completion_tokens == 10
    assert found.estimated


def test_cached_tokens_are_told_from_fresh_ones() -> None:
    openai = entry(**ASK, usage={**USAGE, "prompt_tokens_details": {"cached_tokens": 8}})
    assert (openai.prompt_tokens, openai.cached_tokens) == (12, 8)
    anthropic = entry(**ASK, usage={"input_tokens": 4, "output_tokens": 30, "cache_read_input_tokens": 8})
    assert (anthropic.prompt_tokens, anthropic.cached_tokens) == (12, 8)


def test_a_text_called_input_or_output_is_no_count_of_tokens() -> None:
    found = entry(input="42", output="17")
    assert found.messages[0].content == "42"
    assert found.completion_tokens == 1


def test_a_stated_cost_of_nothing_counts_only_for_a_cache_hit() -> None:
    assert entry(**ASK, spend=0.25).cost_usd == 0.25
    assert entry(**ASK, spend=0.0).cost_usd is None
    assert entry(**ASK, spend=0.0, cache_hit="True").cost_usd == 0.0


def test_a_json_schema_is_noted() -> None:
    form = {"type": "json_schema", "json_schema": {"schema": {}}}
    assert entry(**ASK, response_format=form).constraint == "json_schema"
    assert entry(**ASK, response_format={"type": "text"}).constraint is None


@pytest.mark.parametrize("value", [-5, float("nan"), float("inf"), "-7", 1e30])
def test_impossible_usage_is_left_aside_and_named(value: float | str) -> None:
    found = entry(**ASK, usage={"prompt_tokens": value, "completion_tokens": 30})
    assert found.estimated
    assert found.prompt_tokens == 9
    assert "prompttokens" in found.flaw


def test_nan_in_json_is_read_as_some_writers_put_it(tmp_path: Path) -> None:
    row = '{"prompt": "Hello", "usage": {"prompt_tokens": NaN, "completion_tokens": -1}}\n'
    log = read(tmp_path, row * 3)
    assert (log.total, log.flawed, len(log.flaws)) == (3, 3, 3)
    assert log.flaws[0].startswith("line 1: ")


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (1_772_440_740, 1_772_440_740),
        (1_772_440_740_000, 1_772_440_740),
        ("1772440740", 1_772_440_740),
        ("2026-03-02T08:39:00Z", 1_772_440_740),
        ("2026-03-02 09:39:00+01:00", 1_772_440_740),
        ("2026-03-02T08:39:00", 1_772_440_740),
        ("yesterday", None),
        (17, None),
        (float("nan"), None),
        (None, None),
    ],
)
def test_times_are_read_in_their_usual_forms(value: object, seconds: float | None) -> None:
    assert parse_time(value) == seconds


def test_a_document_may_be_a_list_or_hold_one(tmp_path: Path) -> None:
    rows = [{"prompt": "one"}, {"prompt": "two"}]
    for content in (
        json.dumps(rows),
        json.dumps(rows, indent=2),
        json.dumps({"meta": 1, "data": rows}, indent=2),
    ):
        log = read(tmp_path, content)
        assert (log.kind, log.total) == (Kind.JSON_DOCUMENT, 2)
    assert read(tmp_path, json.dumps({"prompt": "alone"}, indent=2)).total == 1


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_tables_are_read_by_their_columns(tmp_path: Path, delimiter: str) -> None:
    header = delimiter.join(["id", "Prompt", "model", "prompt_tokens", "cost"])
    row = delimiter.join(["1", '"Why is\nthe sky blue?"', "gpt-4o", "12", "0.5"])
    log = read(tmp_path, f"{header}\r\n{row}\r\n")
    assert (log.kind, log.total, log.unusable) == (Kind.CSV, 1, 0)
    found = log.entries[0]
    assert found.messages[0].content == "Why is\nthe sky blue?"
    assert (found.model, found.prompt_tokens, found.cost_usd) == ("gpt-4o", 12, 0.5)


def test_a_table_row_with_too_many_cells_is_named(tmp_path: Path) -> None:
    log = read(tmp_path, "prompt,model\nHello,m\nHello, world,m\n")
    assert (log.total, log.problems) == (1, ["line 3 has 3 cells, but the table 2 columns"])


def test_plain_text_is_one_prompt_a_line(tmp_path: Path) -> None:
    log = read(tmp_path, "Why is the sky blue?\n\nName three uses of salt, please.\n")
    assert (log.kind, log.total) == (Kind.TEXT, 2)
    assert [e.messages[0].content for e in log.entries][1] == "Name three uses of salt, please."


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_encodings_are_recognized(tmp_path: Path, encoding: str) -> None:
    row = json.dumps({"prompt": "Grüße aus München: wie spät ist es jetzt?"}, ensure_ascii=False) + "\n"
    log = read(tmp_path, (row * 3).encode(encoding))
    assert (log.total, log.unusable) == (3, 0)
    assert log.entries[0].messages[0].content.startswith("Grüße aus München")


def test_latin_1_is_read_as_such(tmp_path: Path) -> None:
    log = read(tmp_path, "Grüße aus München\nÜber allen Gipfeln\n".encode("latin-1"))
    assert [e.messages[0].content for e in log.entries] == ["Grüße aus München", "Über allen Gipfeln"]


def test_gzip_is_unpacked(tmp_path: Path) -> None:
    assert read(tmp_path, gzip.compress(SAMPLE.read_bytes())).total == 36


def test_of_truncated_gzip_the_beginning_is_read_and_the_break_named(tmp_path: Path) -> None:
    rows = "".join(json.dumps({"prompt": f"{i} " + "word " * (i % 37)}) + "\n" for i in range(4000))
    packed = gzip.compress(rows.encode())
    log = read(tmp_path, packed[: len(packed) // 2])
    assert 0 < log.total < 4000
    assert log.unusable == 1
    assert "breaks off" in log.problems[0]


def test_a_huge_line_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "MAX_LINE_CHARS", 1 << 20)
    huge = json.dumps({"prompt": "x" * (3 << 20)})
    log = read(tmp_path, f'{{"prompt": "before"}}\n{huge}\n{{"prompt": "after"}}\n')
    assert [e.messages[0].content for e in log.entries] == ["before", "after"]
    assert log.problems == ["line 2: the line is longer than 1 MB"]


def test_mixed_rows_are_read_where_they_can_be(tmp_path: Path) -> None:
    log = read(
        tmp_path, '{"prompt": "one"}\nnot JSON\n[1, 2]\n{"prompt": ""}\n{"other": 1}\n{"prompt": "two"}\n'
    )
    assert (log.total, log.unusable) == (2, 4)
    assert log.problems[0].startswith("line 2 is no JSON (")
    assert log.problems[1] == "line 3 is a JSON list, not an object"
    assert log.problems[2] == "line 4 has no user's text in 'prompt'"
    assert log.problems[3] == "line 5 has no field with a prompt (fields: 'other')"


def test_only_the_first_problems_are_named_and_all_counted(tmp_path: Path) -> None:
    log = read(tmp_path, '{"prompt": "one"}\n' + '{"x": 1}\n' * 500)
    assert (log.unusable, len(log.problems)) == (500, 5)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(b"", "is empty", id="empty"),
        pytest.param(b" \n\t\n", "is empty", id="blank"),
        pytest.param(bytes(range(256)) * 40, "binary data", id="binary"),
        pytest.param(b"PAR1" + bytes(100), "Parquet", id="parquet"),
        pytest.param(b"PK\x03\x04" + bytes(100), "spreadsheet", id="zip"),
        pytest.param(b"SQLite format 3\x00" + bytes(100), "weir router replay", id="database"),
        pytest.param(b'[{"prompt": "one"}, {"pro', "is no JSON", id="broken document"),
        pytest.param(b'{"x": 1}\n{"y": 2}\n', "none of its rows is usable", id="unknown fields"),
        pytest.param(b'{"a":' * 100_000, "is nested too deeply", id="deep nesting"),
        pytest.param(gzip.compress(b"x" * 100)[:5], "is empty", id="gzip header alone"),
        pytest.param(codecs.BOM_UTF16_LE, "is empty", id="mark alone"),
    ],
)
def test_a_file_with_nothing_usable_is_refused_with_the_accepted_forms(
    tmp_path: Path, content: bytes, said: str
) -> None:
    with pytest.raises(LogFileError) as caught:
        read(tmp_path, content)
    assert said in str(caught.value)
    assert "Accepted are" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("log.csv", "id;amount\n1;2\n", "line 2 has no field with a prompt (fields: 'id', 'amount')"),
        ("log.jsonl", "none of this\nis JSON\n", "line 1 is no JSON"),
    ],
)
def test_a_file_named_as_one_form_is_not_taken_for_plain_text(
    tmp_path: Path, name: str, content: str, said: str
) -> None:
    with pytest.raises(LogFileError, match="none of its rows is usable") as caught:
        read(tmp_path, content, name)
    assert said in str(caught.value)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LogFileError, match="cannot be read"):
        read_log(tmp_path / "absent")
    with pytest.raises(LogFileError, match="is a folder"):
        read_log(tmp_path)


def test_spend_logs_without_messages_say_how_to_keep_them(tmp_path: Path) -> None:
    with pytest.raises(LogFileError, match="store_prompts_in_spend_logs"):
        read(tmp_path, '{"request_id": "1", "spend": 0.1, "messages": {}, "model": "gpt-4o"}\n' * 2)


def test_a_limit_draws_a_sample_and_counts_all(tmp_path: Path) -> None:
    path = written(tmp_path, "".join(f'{{"prompt": "{i}"}}\n' for i in range(1000)))
    log = read_log(path, limit=50)
    drawn = [int(e.messages[0].content) for e in log.entries]
    assert (log.total, len(drawn), len(set(drawn))) == (1000, 50, 50)
    assert drawn == sorted(drawn)
    assert 300 < sum(drawn) / 50 < 700
    assert [e.where for e in read_log(path, limit=50).entries] == [e.where for e in log.entries]


_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["messages", "prompt", "role", "content", "usage", "input", "output", "request",
                         "response", "prompt_tokens", "cost", "model", "created_at", "parts", "text"]),
        inner, max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip


@given(
    st.dictionaries(st.sampled_from(["messages", "prompt", "request", "usage", "response", "input"]), _JSON)
)
def test_no_row_does_more_than_be_refused(row: dict[str, Any]) -> None:
    try:
        found = read_entry("line 1", row)
    except RowError:
        return
    assert found.messages[-1].role == "user"
    assert 0 <= found.cached_tokens <= found.prompt_tokens


@given(st.binary(max_size=300))
def test_no_file_does_more_than_be_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any"
    path.write_bytes(content)
    try:
        log = read_log(path)
    except LogFileError:
        return
    assert log.total == len(log.entries) > 0
