"""What the OpenVINO backend is told, as it crosses the process boundary."""

from __future__ import annotations

from typing import Literal

import msgspec


class Options(msgspec.Struct, frozen=True):
    """Paths are strings; sizes in tokens unless named otherwise.

    ``model`` is a GGUF file or an OpenVINO folder, ``cache`` the folder for what is derived from it ("" for
    none), ``sessions_only`` loads no batching pipeline. ``speculative…`` as in ``LocalModel``.
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
    speculative: Literal["none", "draft_model", "ngram"] = "none"
    speculative_model: str = ""
    speculative_tokens: int = 4
    speculative_max_ngram: int = 3
