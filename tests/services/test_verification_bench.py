"""The parts of `weir bench verify` that start real services, on the embedded model."""

from __future__ import annotations

from pathlib import Path

import pytest

from weir.cli.verification import installation as inst
from weir.cli.verification.leaks import leaks
from weir.common.errors import WeirError


async def test_broken_streams_leave_no_session_behind(embedded_model: Path) -> None:
    left, memory = await leaks(embedded_model, embedded_model, 40)
    assert left.values == {"value": 0}
    assert left.met
    assert "client killed" in left.measured
    assert memory.values["value"] > 0


async def test_a_service_that_does_not_come_up_says_why(tmp_path: Path) -> None:
    model = tmp_path / "broken.gguf"
    model.write_bytes(b"GGUF")
    with pytest.raises(WeirError) as caught:
        async with inst.installed({"worker": inst.worker(model)}, {}):
            pass
    assert "The worker ended with exit code" in caught.value.hint
