"""Log lines as they reach stderr: one piece each, with the call that they belong to."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import structlog

from weir.common.config.model import Observability
from weir.common.context import CallInfo, enter_call
from weir.common.logs import configure_logs


class Stderr:
    """Notes what is written to it, and when it is flushed."""

    def __init__(self) -> None:
        self.written: list[str] = []

    def write(self, text: str) -> int:
        self.written.append(text)
        return len(text)

    def flush(self) -> None:
        self.written.append("<flush>")


@pytest.fixture
def stderr(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stderr]:
    """Replace stderr behind the back of loggers that are configured for JSON.

    In the module alone: between a fixture and its test pytest puts its own in place of ``sys.stderr``.
    """
    usual = structlog.get_config()
    monkeypatch.setattr(logging, "basicConfig", lambda **_: None)
    configure_logs("router", Observability())
    replaced = Stderr()
    monkeypatch.setattr("weir.common.logs.sys", SimpleNamespace(stderr=replaced))
    yield replaced
    structlog.configure(**usual)


async def test_a_line_is_written_in_one_piece_and_flushed_at_once(stderr: Stderr) -> None:
    log = structlog.get_logger()
    log.info("first")
    log.info("second")
    assert stderr.written[1::2] == ["<flush>", "<flush>"]
    lines = stderr.written[::2]
    assert [json.loads(line)["event"] for line in lines] == ["first", "second"]
    assert [line.count("\n") for line in lines] == [1, 1]


async def test_a_line_says_when_how_grave_and_for_which_request(stderr: Stderr) -> None:
    enter_call(CallInfo(request_id="r-1"))
    structlog.get_logger().warning("slow", seconds=0.5, tenant=None)
    line = json.loads(stderr.written[0])
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "slow", "level": "warning", "request_id": "r-1", "seconds": 0.5, "tenant": None}


async def test_what_json_does_not_know_is_shown_as_python_does(stderr: Stderr) -> None:
    structlog.get_logger().info("odd", value=1j)
    assert json.loads(stderr.written[0])["value"] == "1j"


async def test_what_is_below_the_level_is_not_written(stderr: Stderr) -> None:
    structlog.get_logger().debug("detail")
    assert stderr.written == []


@pytest.mark.parametrize("problem", [BrokenPipeError(), OSError(28, "No space left on device")])
def test_a_line_that_cannot_be_written_fails_nothing(
    stderr: Stderr, monkeypatch: pytest.MonkeyPatch, problem: OSError
) -> None:
    def fail(*_: object) -> int:
        raise problem

    with monkeypatch.context() as broken:
        broken.setattr(stderr, "write", fail)
        broken.setattr(stderr, "flush", fail)
        structlog.get_logger().info("nobody_reads_this")
    structlog.get_logger().info("somebody_reads_this")
    assert "somebody_reads_this" in "".join(stderr.written)
