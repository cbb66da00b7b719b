"""Training, validation and unseen-domain rows: by hashes, so that a row keeps its place as the data grows."""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from dataclasses import dataclass

import numpy as np

from weir.router.training.dataset import Bools, Dataset
from weir.router.training.duplicates import deduplicated, prompt_key, without_leaks

# A domain may overshoot the wanted share of unseen rows by this factor; past it, a smaller one is looked for.
_SLACK = 1.5


@dataclass(frozen=True)
class Split:
    """Three parts without a common prompt; no domain of ``unseen`` is in the others.

    ``unseen`` is empty where all rows are of one domain, and the notes of ``train`` say so.
    """

    train: Dataset
    validation: Dataset
    unseen: Dataset


def split(data: Dataset, validation_share: float = 0.2, unseen_share: float = 0.1) -> Split:
    """De-duplicate and split ``data``.

    Args:
        data: the labeled rows.
        validation_share: of the rows of seen domains, 0 to 1, chosen by the hash of the prompt.
        unseen_share: of all rows, 0 to 1: whole domains, chosen by the hash of their name, until it is
            reached as closely as they allow; one at least, while another one stays.

    Raises:
        ValueError: for a share outside of 0 to 1.
    """
    for share in (validation_share, unseen_share):
        if not 0 <= share <= 1:
            raise ValueError(f"a share of rows is between 0 and 1, not {share}")
    rows = deduplicated(data)
    names = unseen_domains(rows, unseen_share)
    unseen = np.array([row.domain in names for row in rows.rows], bool)
    held = np.array([_place(prompt_key(prompt)) < validation_share for prompt in rows.prompts], bool)
    held &= ~unseen
    train, validation = _part(rows, "training", ~held & ~unseen), _part(rows, "validation", held)
    if not names:
        train = train.noted(f"{data.name}: all rows are of one domain, so that no unseen one can be measured")
    return Split(without_leaks(train, validation), validation, _part(rows, "unseen domains", unseen))


def unseen_domains(data: Dataset, share: float) -> frozenset[str]:
    """Return the domains to leave out of training so that about ``share`` of the rows is of them."""
    sizes = Counter(data.subjects.tolist())
    if len(sizes) < 2:
        return frozenset()
    wanted, chosen, taken = share * len(data.rows), set[str](), 0
    for name in sorted(sizes, key=_place):
        if len(chosen) < len(sizes) - 1 and taken + sizes[name] <= _SLACK * wanted and taken < wanted:
            chosen.add(name)
            taken += sizes[name]
    return frozenset(chosen or {min(sizes, key=lambda name: (sizes[name], name))})


def _part(rows: Dataset, what: str, kept: Bools) -> Dataset:
    return dataclasses.replace(rows.where(kept), name=f"{rows.name} ({what})")


def _place(key: str) -> float:
    """Return where a key falls, uniform in 0 to 1, the same on every machine."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8]) / 2**64
