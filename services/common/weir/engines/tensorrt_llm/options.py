"""What the TensorRT-LLM backend is told, as it crosses the process boundary."""

from __future__ import annotations

from typing import Any

import msgspec


class Options(msgspec.Struct, frozen=True):
    """``model`` is a checkpoint folder; ``run`` holds those ``LocalModel`` settings that were set.

    ``warm_up`` are the ids of a short text, run once after loading; ``quantization`` is the configured name.
    """

    model: str
    run: dict[str, Any]
    max_context: int
    stop_ids: list[int]
    warm_up: list[int]
    quantization: str = ""
