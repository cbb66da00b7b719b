"""Provider keys: where they come from, how a changed file is noticed, and where they never show."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from weir.common.config import ConfigError
from weir.common.config.frontier import Provider
from weir.frontier_proxy.keys import Key, KeyFile, find_key
from weir.frontier_proxy.providers.base import Access

OLD, NEW = "sk-old-0123456789", "sk-new-0123456789"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    write(path, OLD, at=1_000)
    return path


def write(path: Path, text: str, at: float) -> None:
    """Write the file as a process would have done at the time ``at``."""
    path.write_text(text)
    os.utime(path, (at, at))


def value(key: Key) -> str | None:
    found = key.current()
    return found.get_secret_value() if found else None


def test_a_rotated_file_is_the_next_requests_key(file: Path) -> None:
    key = KeyFile("openai", file)
    assert value(key) == OLD
    write(file, f"{NEW}\n", at=2_000)
    assert value(key) == NEW


def test_a_file_replaced_by_another_of_the_same_time_and_size_is_noticed(file: Path) -> None:
    key = KeyFile("openai", file)
    write(other := file.with_name("other"), NEW, at=1_000)
    other.replace(file)
    assert value(key) == NEW


def test_two_changes_within_the_file_systems_grain_are_both_noticed(file: Path) -> None:
    key = KeyFile("openai", file, now=lambda: 1_000.5)
    write(file, NEW, at=1_000)
    assert value(key) == NEW


def test_an_unchanged_file_is_not_read_again(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = KeyFile("openai", file)
    monkeypatch.setattr(Path, "open", lambda *_: pytest.fail("the file was opened"))
    assert value(key) == OLD


@pytest.mark.parametrize(
    ("content", "problem"),
    [("", "empty"), ("two words", "not a key"), ("§§", "not a key"), (None, "unreadable")],
)
def test_a_broken_file_leaves_the_key_and_is_told_once(file: Path, content: str | None, problem: str) -> None:
    key = KeyFile("openai", file)
    if content is None:
        file.unlink()
    else:
        write(file, content, at=2_000)
    with capture_logs() as logs:
        assert [value(key), value(key)] == [OLD, OLD]
    assert [(entry["event"], entry["problem"]) for entry in logs] == [("key_file_ignored", problem)]
    write(file, NEW, at=3_000)
    assert value(key) == NEW


def test_a_pipe_is_read_once(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.write(writing, OLD.encode())
    os.close(writing)
    try:
        key = KeyFile("openai", Path(f"/dev/fd/{reading}"))
        assert [value(key), value(key)] == [OLD, OLD]
    finally:
        os.close(reading)


def test_the_replaced_key_still_counts_as_one_that_must_not_show(file: Path) -> None:
    key = KeyFile("openai", file)
    write(file, NEW, at=2_000)
    assert value(key) == NEW
    assert key.revealed_by(f"no such key: {OLD}")
    assert key.revealed_by(f"no such key: {NEW}")
    assert not key.revealed_by("no such key")


def test_responses_and_chat_completions_share_openais_variable() -> None:
    environ = {"OPENAI_API_KEY": OLD}
    for kind in ("openai", "openai_responses"):
        assert value(find_key("p", Provider.model_validate({"kind": kind}), environ)) == OLD


@pytest.mark.parametrize("path", ["", "nowhere/key"])
def test_what_can_become_no_file_is_an_error_at_the_start(tmp_path: Path, path: str) -> None:
    with pytest.raises(ConfigError, match="api_key_file"):
        find_key("p", Provider(kind="openai", api_key_file=tmp_path / path), {})


@pytest.mark.parametrize("content", [None, "", "\n"])
def test_a_file_that_is_missing_or_empty_at_the_start_is_waited_for(
    tmp_path: Path, content: str | None
) -> None:
    path = tmp_path / "key"
    if content is not None:
        write(path, content, at=1_000)
    with capture_logs() as logs:
        key = find_key("p", Provider(kind="openai", api_key_file=path), {})
        assert key.pending
        assert value(key) is None
    assert [(entry["event"], entry["file"]) for entry in logs] == [("key_awaited", str(path))]
    write(path, NEW, at=2_000)
    assert not key.pending
    assert value(key) == NEW


def test_a_key_that_has_come_is_waited_for_no_more(file: Path) -> None:
    key = KeyFile("openai", file)
    file.unlink()
    assert not key.pending
    assert not Key("OPENAI_API_KEY").pending


def test_a_key_shows_in_no_repr_log_or_error(file: Path) -> None:
    with capture_logs() as logs:
        key = KeyFile("openai", file)
        write(file, NEW, at=2_000)
        access = Access("openai", "openai", "https://api.openai.com/v1", key)
        shown = repr((key, access, access.key)) + str(access.key)
        write(file, f"{NEW} {NEW}", at=3_000)
        shown += repr(access.key)
    with pytest.raises(ConfigError) as caught:
        find_key("p", Provider(kind="openai", api_key_file=file), {})
    shown += str(caught.value) + repr(logs)
    assert "key_reloaded" in shown
    assert OLD not in shown
    assert NEW not in shown


def test_a_logged_exception_shows_no_local_variables() -> None:
    program = f"""
import structlog
from weir.common.config.model import Observability
from weir.common.logs import configure_logs
configure_logs("frontier_proxy", Observability(log_format="console"))
def fail():
    parts = ["{OLD[:6]}", "{OLD[6:]}"]
    headers = {{"Authorization": "".join(parts)}}
    raise RuntimeError(f"{{len(headers)}} headers")
try:
    fail()
except RuntimeError:
    structlog.get_logger("test").exception("unexpected")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "RuntimeError: 1 headers" in done.stderr
    assert OLD not in done.stderr
