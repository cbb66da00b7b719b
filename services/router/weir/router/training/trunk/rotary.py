"""Rotary position embeddings (Su et al. 2021, arXiv 2104.09864) as tables, from a model's configuration."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Table = npt.NDArray[np.float32]
_BASE = 10_000.0


def rotary_tables(config: Mapping[str, Any], head: int, positions: int) -> tuple[Table, Table]:
    """Return cosines and sines, float32 [positions, head / 2].

    Raises:
        ValueError: a scaling of the frequencies other than none and Llama 3's.
    """
    stated = config.get("rope_parameters") or config.get("rope_scaling") or {}
    base = stated.get("rope_theta") or config.get("rope_theta") or _BASE
    frequencies = base ** (-np.arange(0, head, 2, dtype=np.float64) / head)
    kind = stated.get("rope_type") or stated.get("type") or "default"
    if kind == "llama3":
        frequencies = _llama3(frequencies, stated)
    elif kind != "default":
        raise ValueError(f"rotary scaling {kind!r} is not known")
    angles = np.arange(positions)[:, None] * frequencies
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


def _llama3(frequencies: npt.NDArray[np.float64], stated: Mapping[str, Any]) -> npt.NDArray[np.float64]:
    """Slow the low frequencies down by ``factor``, with a smooth passage (Llama 3.1, ``apply_scaling``)."""
    low, high = stated["low_freq_factor"], stated["high_freq_factor"]
    turns = stated["original_max_position_embeddings"] * frequencies / (2 * math.pi)
    smooth = np.clip((turns - low) / (high - low), 0.0, 1.0)
    slowed: npt.NDArray[np.float64] = frequencies * (smooth + (1 - smooth) / stated["factor"])
    return slowed
