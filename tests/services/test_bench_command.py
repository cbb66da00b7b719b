"""`weir bench prompts` against a real router on scripted upstreams."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from tests.services.scripted_upstreams import router_bench
from weir.cli.bench import bench_app, percentile
from weir.common.config import Settings
from weir.common.errors import ErrorCode, WeirError


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.jsonl"
    path.write_text(
        "".join(json.dumps({"turns": [f"Question {n}?"]}) + "\n" for n in range(5)), encoding="utf-8"
    )
    return path


async def _run(*arguments: str) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, bench_app, ["prompts", *arguments])


async def test_every_prompt_goes_by_every_route(settings: Settings, prompts: Path) -> None:
    async with router_bench(settings) as bench:
        result = await _run(str(prompts), "--target", f"127.0.0.1:{bench.app.port}")
        asked = [len(script.calls) for script in bench.scripts.values()]
    assert result.exit_code == 0, result.output
    assert sum(asked) == 4 * 5
    for route in ("auto", "slm", "hybrid", "frontier"):
        assert route in result.output


async def test_failures_are_counted_and_told(settings: Settings, prompts: Path) -> None:
    async with router_bench(settings) as bench:
        bench.worker.script.error = WeirError(ErrorCode.QUEUE_FULL)
        result = await _run(str(prompts), "--route", "slm", "--target", f"127.0.0.1:{bench.app.port}")
    assert result.exit_code == 1
    assert "QUEUE_FULL 5" in " ".join(result.output.split())


async def test_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.jsonl"
    path.write_text("not json\n", encoding="utf-8")
    result = await _run(str(path))
    assert result.exit_code == 2


def test_percentile_is_the_nearest_rank() -> None:
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert percentile([1.0], 0.95) == 1.0
    assert percentile([], 0.5) == 0.0
