"""The models that are verified against: the drafter made wider, with more and more noise on its weights."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from weir.common.config.model import EMBEDDED_MODEL, Models
from weir.models.gguf_stand_in import Noise, write_stand_in
from weir.models.store import ModelStore
from weir.models.widening import Width

# 1.11 B parameters where the drafter is the embedded model.
WIDTH = Width(hidden=1536, intermediate=6144, heads=24, kv_heads=8)
SEED = 0
# Levels of noise and the acceptance that each gave (benchmarks/verify_noise.py, docs/benchmarks.md).
NOISE: Mapping[float, float] = MappingProxyType(
    {0.0: 1.0, 0.025: 0.908, 0.065: 0.811, 0.2: 0.526, 0.39: 0.327}
)


async def embedded_drafter() -> Path:
    """Return the embedded model's file, fetched where it is missing. Raises WeirError MODEL_UNAVAILABLE."""
    return (await ModelStore(Models()).pull(EMBEDDED_MODEL)).path


async def build_targets(drafter: Path, folder: Path, levels: Sequence[float] = tuple(NOISE)) -> list[Path]:
    """Write the targets that ``folder`` does not have yet; returns all, in the order of ``levels``.

    Raises:
        ValueError: the drafter cannot be widened.
    """
    return [await _build(drafter, folder, level) for level in levels]


async def _build(drafter: Path, folder: Path, level: float) -> Path:
    path = folder / f"wide-noise-{level:g}.gguf"
    if not path.exists():
        await asyncio.to_thread(write_stand_in, drafter, path, WIDTH, Noise(level, SEED))
    return path
