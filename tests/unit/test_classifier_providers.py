"""Execution providers that are not there are left out with a warning."""

from __future__ import annotations

import onnxruntime as ort
import pytest
from structlog.testing import capture_logs

from weir.router.classifier import providers


@pytest.fixture
def built_with(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The providers of a made-up build of ONNX Runtime."""
    built = ["CPUExecutionProvider"]
    monkeypatch.setattr(ort, "get_available_providers", lambda: built)
    return built


def test_missing_providers_fall_back_to_the_cpu_with_a_warning(built_with: list[str]) -> None:
    with capture_logs() as logs:
        assert providers.available(["tensorrt", "cuda", "cpu"]) == providers.CPU
    missing = [(line["wanted"], line["log_level"]) for line in logs]
    assert missing == [("tensorrt", "warning"), ("cuda", "warning")]
    assert all(line["built_with"] == built_with for line in logs)


def test_providers_keep_their_order_and_get_their_options(built_with: list[str]) -> None:
    built_with += ["CUDAExecutionProvider", "TensorrtExecutionProvider"]
    with capture_logs() as logs:
        found = providers.available(["tensorrt", "cuda"])
    assert logs == []
    assert [name if isinstance(name, str) else name[0] for name in found] == [
        "TensorrtExecutionProvider",
        "CUDAExecutionProvider",
        "CPUExecutionProvider",
    ]
    options = found[0][1]
    assert isinstance(options, dict)
    assert options["trt_profile_max_shapes"] == "input_ids:16x512,attention_mask:16x512"


def test_the_cpu_alone_is_what_lanes_compare_with() -> None:
    assert providers.available(["cpu"]) == providers.CPU
