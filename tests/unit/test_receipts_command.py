"""`weir receipts`: exit codes, what is said, and what an exported trace is good for."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.receipts_samples import FACTS, decision
from weir.common.config.model import Receipts
from weir.router.receipts.cli import receipts_app
from weir.router.receipts.convert import Feedback, Outcome
from weir.router.receipts.sqlite import SqliteDatabase
from weir.router.receipts.store import ReceiptStore


def weir(*arguments: str) -> Result:
    return CliRunner().invoke(receipts_app, list(arguments))


def head(result: Result) -> str:
    return str(json.loads(result.stdout)["head"])


async def _fill(path: Path) -> None:
    # 2026-01-01T00:00:00Z and each day after.
    days = iter(1_767_225_600 + 86_400 * day for day in range(100))
    store = ReceiptStore(SqliteDatabase(path), Receipts(), clock=lambda: float(next(days)))
    await store.start()
    for number in range(4):
        store.record(decision(number), FACTS, request_id=f"q{number}", tenant="ab"[number % 2])
    store.finish("d1", Outcome("finished", "hybrid", completion_tokens=7, total_s=1.25, handovers=1))
    await store.label("d1", Feedback(acceptable=False, score=0.25, comment="too short"), tenant="b")
    await store.aclose()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The database in the state folder: four decisions, one with an outcome and a label."""
    path = tmp_path / "state" / "receipts.sqlite3"
    asyncio.run(_fill(path))
    return path


def tamper(file: Path, statement: str) -> None:
    with closing(sqlite3.connect(file)) as database:
        database.execute(statement)
        database.commit()


def test_verify_prints_count_and_head_and_exits_with_0(file: Path) -> None:
    result = weir("verify")
    assert result.exit_code == 0, result.output
    assert "6 receipts, no break" in result.stdout
    assert f"head   {head(weir('verify', '--json'))}" in result.stdout
    assert head(weir("verify", "--json")).startswith("6:")


def test_verify_names_the_first_break_and_exits_with_1(file: Path) -> None:
    tamper(file, "DELETE FROM weir_receipts WHERE sequence = 3")
    result = weir("verify")
    assert result.exit_code == 1
    assert "receipt 3 is missing" in result.stdout
    told = json.loads(weir("verify", "--json").stdout)
    assert (told["ok"], told["broken"], told["count"]) == (False, 3, 2)


def test_end_that_was_cut_off_is_found_with_the_noted_head_alone(file: Path) -> None:
    noted = head(weir("verify", "--json"))
    assert weir("verify", "--head", noted).exit_code == 0
    tamper(file, "DELETE FROM weir_receipts WHERE sequence > 4")
    assert weir("verify").exit_code == 0
    result = weir("verify", "--head", noted)
    assert result.exit_code == 1
    assert "receipt 5 is missing" in result.stdout
    assert weir("verify", "--head", noted.partition(":")[2]).exit_code == 1


@pytest.mark.parametrize("arguments", [("--head", "abc"), ("--anchor", "1:abc")])
def test_head_that_is_none_is_a_usage_error(file: Path, arguments: tuple[str, ...]) -> None:
    result = weir("verify", *arguments)
    assert result.exit_code == 2
    assert "is not a head" in " ".join(result.output.split())


def test_show_explains_a_decision_to_people(file: Path) -> None:
    result = weir("show", "d1")
    assert result.exit_code == 0, result.output
    for part in (
        "slm, model small", "low_complexity", "no: residency", "0.85", "0.72", "language", "r1",
        "finished", "hybrid", "1.25", "too short", "2026-01-02",
    ):  # fmt: skip
        assert part in result.stdout


def test_show_prints_json_where_asked(file: Path) -> None:
    told = json.loads(weir("show", "d1", "--json").stdout)
    assert told["decision"]["case"]["exclusions"] == {"frontier": "residency"}
    assert told["outcome"]["handovers"] == 1
    assert told["feedback"][0]["comment"] == "too short"


@pytest.mark.parametrize("arguments", [("nobody",), ("d1", "--tenant", "a")])
def test_show_of_an_unknown_or_another_tenants_decision_fails(file: Path, arguments: tuple[str, ...]) -> None:
    result = weir("show", *arguments)
    assert result.exit_code == 1
    assert "No decision" in result.stderr


def test_exported_trace_verifies_by_itself_and_shows_a_change(file: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace.jsonl"
    assert weir("export", "--out", str(trace)).exit_code == 0
    told = json.loads(weir("verify", "--json").stdout)
    ends = ("--anchor", told["anchor"], "--head", told["head"])
    assert weir("verify", str(trace), *ends).exit_code == 0
    assert weir("verify", str(trace)).exit_code == 0
    trace.write_bytes(trace.read_bytes().replace(b'"low_complexity"', b'"high_compexity"', 1))
    assert "receipt 1 does not fit" in weir("verify", str(trace), *ends).stdout


def test_export_takes_a_time_and_a_tenant(file: Path) -> None:
    def exported(*arguments: str) -> list[tuple[str, str]]:
        result = weir("export", *arguments)
        assert result.exit_code == 0, result.output
        records = [json.loads(line)["record"] for line in result.stdout.splitlines()]
        return [(record["kind"], record["decision_id"]) for record in records]

    assert len(exported()) == 6
    assert exported("--since", "2026-01-02", "--until", "2026-01-03T00:00:00+00:00") == [
        ("decision", "d1"), ("outcome", "d1"), ("feedback", "d1"),
    ]  # fmt: skip
    assert exported("--tenant", "a") == [("decision", "d0"), ("decision", "d2")]
    assert exported("--tenant", "nobody") == []


def test_time_that_is_none_is_a_usage_error(file: Path) -> None:
    result = weir("export", "--since", "yesterday")
    assert result.exit_code == 2
    assert "is not a time" in " ".join(result.output.split())


def test_file_that_cannot_be_written_is_a_sentence(file: Path, tmp_path: Path) -> None:
    result = weir("export", "--out", str(tmp_path / "absent" / "trace.jsonl"))
    assert result.exit_code == 1
    assert "cannot be written" in result.stderr


@pytest.mark.parametrize("content", [None, b"no trace\n"])
def test_trace_that_is_none_is_a_sentence(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "trace.jsonl"
    if content:
        path.write_bytes(content)
    result = weir("verify", str(path))
    assert result.exit_code == 1
    assert ("line 1" if content else "cannot be read") in result.stderr


def test_before_the_first_receipt_there_is_nothing_to_verify() -> None:
    result = weir("verify")
    assert result.exit_code == 1
    assert "no receipts yet" in result.stderr


def test_database_without_receipts_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    tamper(tmp_path / "state" / "receipts.sqlite3", "CREATE TABLE other (id INTEGER)")
    result = weir("verify")
    assert result.exit_code == 1
    assert "cannot be read" in result.stderr


def test_postgres_address_that_is_missing_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEIR_STATE__RECEIPTS__POSTGRES_ENV", "NOWHERE")
    result = weir("verify")
    assert result.exit_code == 1
    assert "The variable NOWHERE" in result.stderr
