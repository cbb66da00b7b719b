"""Prompts that stand more than once: merged within a file, kept apart between training and validation."""

from __future__ import annotations

import dataclasses
import hashlib
import re
import unicodedata
import zlib
from collections import defaultdict
from collections.abc import Iterable, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from weir.router.training.dataset import Bools, Dataset
from weir.router.training.labels import LabeledRow

_WORD = re.compile(r"\w+")
_SHINGLE = 3
# What is compared of a prompt, in characters: near copies of a long one differ little at its start.
_COMPARED = 20_000
# Pairs of Jaccard similarity 0.8 share one of the bands of four minima with probability 0.9998, pairs of 0.3
# with 0.12.
_HASHES, _BANDS = 64, 16
NEAR = 0.8

Signatures = npt.NDArray[np.uint64]


def prompt_key(prompt: str) -> str:
    """Return a hash that prompts share which differ in case, spaces or Unicode form (NFKC) alone."""
    return hashlib.sha256(_plain(prompt).encode()).hexdigest()


def deduplicated(data: Dataset) -> Dataset:
    """Return one row for each prompt, at its first place.

    Of repeated rows the labels of greater weight stand, each model's by itself; where they balance, that
    label is unknown, and a row that knows neither is left out. The first row's domain and source stand, and
    the greatest weight.
    """
    together: dict[str, list[LabeledRow]] = defaultdict(list)
    for row in data.rows:
        together[prompt_key(row.prompt)].append(row)
    merged = [_merged(rows) for rows in together.values()]
    kept = [row for row in merged if row.weak_correct is not None or row.strong_correct is not None]
    repeated = len(data.rows) - len(together)
    disputed = sum(_contradictory(rows) for rows in together.values())
    result = dataclasses.replace(data, rows=kept)
    if repeated:
        result = result.noted(f"{data.name}: merged {repeated} repeated rows")
    if disputed:
        left = len(merged) - len(kept)
        result = result.noted(
            f"{data.name}: the labels of {disputed} prompts contradict each other; the greater weight "
            f"stands, and {left} of them that balance are left out"
        )
    return result


def without_leaks(train: Dataset, validation: Dataset) -> Dataset:
    """Return ``train`` less the rows whose prompt, or nearly the same one, stands in ``validation``."""
    same, near = leaked(train.prompts, validation.prompts), nearly(train.prompts, validation.prompts)
    near &= ~same
    if not (same | near).any():
        return train
    return train.where(~(same | near)).noted(
        f"{train.name}: left out {same.sum()} prompts that {validation.name} has too, and {near.sum()} that "
        "are nearly the same as one there"
    )


def leaked(prompts: Sequence[str], others: Iterable[str]) -> Bools:
    """Return which of ``prompts`` stand among ``others`` too, by ``prompt_key``."""
    known = {prompt_key(prompt) for prompt in others}
    return np.array([prompt_key(prompt) in known for prompt in prompts], bool)


def nearly(prompts: Sequence[str], others: Sequence[str], least: float = NEAR) -> Bools:
    """Return which of ``prompts`` are nearly one of ``others``.

    The measure is the Jaccard similarity of the sets of three words in a row, at least ``least``. It is
    computed for the pairs that MinHash (Broder 1997) in bands proposes.
    """
    mine, theirs = [_shingles(p) for p in prompts], [_shingles(p) for p in others]
    buckets: dict[tuple[int, bytes], list[int]] = defaultdict(list)
    for index, signature in enumerate(_signatures(theirs)):
        for band in _bands(signature):
            buckets[band].append(index)
    found = np.zeros(len(prompts), bool)
    for index, signature in enumerate(_signatures(mine)):
        candidates = {other for band in _bands(signature) for other in buckets.get(band, ())}
        found[index] = any(_jaccard(mine[index], theirs[other]) >= least for other in candidates)
    return found


def _plain(prompt: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", prompt).casefold().split())


def _merged(rows: Sequence[LabeledRow]) -> LabeledRow:
    if len(rows) == 1:
        return rows[0]
    return msgspec.structs.replace(
        rows[0],
        weak_correct=_heavier((row.weak_correct, row.weight) for row in rows),
        strong_correct=_heavier((row.strong_correct, row.weight) for row in rows),
        weight=max(row.weight for row in rows),
    )


def _heavier(said: Iterable[tuple[bool | None, float]]) -> bool | None:
    balance = sum(weight if label else -weight for label, weight in said if label is not None)
    return None if balance == 0 else balance > 0


def _contradictory(rows: Sequence[LabeledRow]) -> bool:
    weak, strong = {row.weak_correct for row in rows}, {row.strong_correct for row in rows}
    return any({True, False} <= said for said in (weak, strong))


def _shingles(prompt: str) -> Signatures:
    words = _WORD.findall(_plain(prompt[:_COMPARED]))
    parts = [" ".join(words[at : at + _SHINGLE]) for at in range(max(1, len(words) - _SHINGLE + 1))]
    return np.unique(np.array([zlib.crc32(part.encode()) for part in parts], np.uint64))


def _signatures(sets: Sequence[Signatures]) -> Iterable[Signatures]:
    # Multiply-shift hashing: the products wrap around on purpose, and their upper halves are kept.
    generator = np.random.default_rng(0)
    factor = generator.integers(1, 2**63, _HASHES, np.uint64) * np.uint64(2) + np.uint64(1)
    offset = generator.integers(0, 2**63, _HASHES, np.uint64)
    for shingles in sets:
        yield ((shingles[:, None] * factor + offset) >> np.uint64(32)).min(axis=0)


def _bands(signature: Signatures) -> list[tuple[int, bytes]]:
    return [(at, band.tobytes()) for at, band in enumerate(signature.reshape(_BANDS, -1))]


def _jaccard(one: Signatures, other: Signatures) -> float:
    shared = len(np.intersect1d(one, other, assume_unique=True))
    return shared / (len(one) + len(other) - shared)
