"""Labels and batches: rows of like length together, padded on the right."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from weir.router.training.dataset import Dataset
from weir.router.training.labels import LabeledRow

Ids = npt.NDArray[np.int64]
# The order of the events everywhere in this package.
EVENTS = ("complexity", "benefit", "harm")


@dataclass(frozen=True)
class Labels:
    """What is known of each row.

    Attributes:
        events: float32 [rows, 3], 1, 0, or NaN where unknown: the weak model wrong; wrong and the strong one
            right; the weak one right and the strong one wrong.
        domains: int64 [rows], index into ``names``, -1 for others.
        weights: float32 [rows], how much each row counts.
        names: the groups of subjects.
    """

    events: npt.NDArray[np.float32]
    domains: Ids
    weights: npt.NDArray[np.float32]
    names: tuple[str, ...]

    def where(self, rows: npt.NDArray[Any]) -> Labels:
        """Return the rows that ``rows``, indices or bool [rows], picks."""
        return Labels(self.events[rows], self.domains[rows], self.weights[rows], self.names)


def labels_of(data: Dataset, names: Sequence[str] | None = None) -> Labels:
    """Return the rows' labels; the groups of subjects are those of ``data`` where ``names`` are not given."""
    known = tuple(names or sorted(set(data.groups.tolist())))
    place = {name: index for index, name in enumerate(known)}
    return Labels(
        events=np.array([_events(row) for row in data.rows], np.float32),
        domains=np.array([place.get(group, -1) for group in data.groups], np.int64),
        weights=data.weights.astype(np.float32),
        names=known,
    )


def _events(row: LabeledRow) -> tuple[float, float, float]:
    weak, strong = row.weak_correct, row.strong_correct
    wrong = math.nan if weak is None else float(not weak)
    if weak is None or strong is None:
        return wrong, math.nan, math.nan
    return wrong, float(strong and not weak), float(weak and not strong)


def batches(
    lengths: Sequence[int], rows: Ids, budget: int, draw: np.random.Generator | None = None
) -> list[Ids]:
    """Part ``rows`` into batches of at most ``budget`` positions, padding included (one row at least).

    With ``draw`` the order of the batches, and which rows of like length meet, is random.
    """
    size = np.asarray(lengths, np.float64)[rows]
    if draw is not None:
        size = size * draw.uniform(0.9, 1.1, len(rows))
    order = rows[np.argsort(size, kind="stable")]
    parts: list[list[int]] = []
    longest = 0
    for row in order:
        longest = max(longest, lengths[row])
        if not parts or longest * (len(parts[-1]) + 1) > budget:
            parts.append([])
            longest = lengths[row]
        parts[-1].append(int(row))
    made = [np.array(part) for part in parts]
    if draw is not None:
        draw.shuffle(made)
    return made


def padded(pieces: Sequence[Ids]) -> tuple[Ids, Ids]:
    """Return ``input_ids`` and ``attention_mask``, int64 [rows, longest], padded with 0 on the right."""
    longest = max(len(piece) for piece in pieces)
    ids = np.zeros((len(pieces), longest), np.int64)
    mask = np.zeros_like(ids)
    for row, piece in enumerate(pieces):
        ids[row, : len(piece)] = piece
        mask[row, : len(piece)] = 1
    return ids, mask
