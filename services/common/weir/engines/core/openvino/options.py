"""What the OpenVINO backend is told, as it crosses the process boundary."""

from __future__ import annotations

import msgspec


class Options(msgspec.Struct, frozen=True):
    """Paths are strings; sizes in tokens unless named otherwise.

    ``model`` is a GGUF file or an OpenVINO folder, ``cache`` the folder for what is derived from it ("" for
    none), ``sessions_only`` loads no batching pipeline.
    """

    model: str
    stop_ids: list[int]
    max_context: int
    cache: str = ""
    max_running: int = 32
    max_sessions: int = 16
    kv_cache_gb: float = 1.0
    sessions_only: bool = False
    quantization: str = ""
