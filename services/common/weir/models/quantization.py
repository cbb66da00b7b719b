"""The quantization that a model file's name states (the naming convention of GGUF files)."""

from __future__ import annotations

import re

_STATED = re.compile(
    r"(?:^|[.\-_])((?:i?q[2-8](?:_(?:k|0|1|[smlx]{1,3}))*)|bf16|f16|fp16|f32|fp32|fp8|int8|int4|nf4|fp4|nvfp4)$",
    re.IGNORECASE,
)


def quantization_in_name(stem: str) -> str:
    """Return for example "q4_1" for "SmolLM2-135M-Instruct.Q4_1"; empty where the name states none."""
    found = _STATED.search(stem)
    return found[1].lower() if found else ""
