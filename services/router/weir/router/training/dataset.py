"""Labeled prompts of one file, as rows and as arrays."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from weir.router.classifier.artifact import sha256_of
from weir.router.receipts.records import Record
from weir.router.training import feedback, labels
from weir.router.training.labels import LabeledRow, LabelError, Roles
from weir.router.training.subjects import group_of

Bools = npt.NDArray[np.bool_]
Names = npt.NDArray[np.str_]
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class DatasetError(ValueError):
    """A file that cannot be used; the message names the line and what it should hold."""


@dataclass(frozen=True)
class Dataset:
    """Rows of one file, in its order. ``notes`` say what was passed over, merged or left out, and why."""

    name: str
    sha256: str
    rows: Sequence[LabeledRow]
    notes: tuple[str, ...] = ()

    @property
    def complete(self) -> Dataset:
        """The rows of which both models' outcomes are known: what can be evaluated."""
        return self.where(np.array([row.complete for row in self.rows], bool))

    @property
    def weak(self) -> Bools:
        """Whether the small model was right. Raises DatasetError where some row does not say."""
        return self._outcomes(lambda row: row.weak_correct, "weak_correct")

    @property
    def strong(self) -> Bools:
        """Whether the strong model was right. Raises DatasetError where some row does not say."""
        return self._outcomes(lambda row: row.strong_correct, "strong_correct")

    @property
    def knows_weak(self) -> Bools:
        """Which rows say whether the small model was right."""
        return np.array([row.weak_correct is not None for row in self.rows], bool)

    @property
    def knows_strong(self) -> Bools:
        """Which rows say whether the strong model was right."""
        return np.array([row.strong_correct is not None for row in self.rows], bool)

    @property
    def weights(self) -> npt.NDArray[np.float64]:
        """How much each row counts in training."""
        return np.array([row.weight for row in self.rows], np.float64)

    @property
    def prompts(self) -> list[str]:
        """The prompts."""
        return [row.prompt for row in self.rows]

    @property
    def subjects(self) -> Names:
        """The subject of each row, for grouped cross-validation."""
        return np.array([row.domain for row in self.rows], np.str_)

    @property
    def groups(self) -> Names:
        """The group of subjects of each row; a subject that MMLU does not know is its own group."""
        return np.array([group_of(row.domain) for row in self.rows], np.str_)

    @property
    def sources(self) -> Names:
        """Where each row is from."""
        return np.array([row.source for row in self.rows], np.str_)

    def where(self, kept: Bools) -> Dataset:
        """Return the rows that ``kept``, bool [rows], picks; the hash stays that of the file."""
        return dataclasses.replace(
            self, rows=[row for row, keep in zip(self.rows, kept, strict=True) if keep]
        )

    def noted(self, *notes: str) -> Dataset:
        """Return the same rows with further notes."""
        return dataclasses.replace(self, notes=self.notes + notes)

    def _outcomes(self, read: Callable[[LabeledRow], bool | None], key: str) -> Bools:
        found = [read(row) for row in self.rows]
        if None in found:
            raise DatasetError(f"{self.name}: {found.count(None)} of {len(found)} rows do not say {key}.")
        return np.array(found, bool)


def read(path: Path, roles: Roles | None = None) -> Dataset:
    """Read JSON lines of any of the three kinds of labels, which one file may mix.

    Args:
        path: the file.
        roles: which models are the weak and the strong one, where lines name models.

    Raises:
        DatasetError: for the first line that is no label, and for a file without a usable row.
    """
    passed_over: Counter[str] = Counter()
    records: list[Record] = []
    rows: list[LabeledRow] = []
    for number, line in _lines(path):
        try:
            found = labels.parse(line)
            if feedback.is_receipt(found):
                records.append(feedback.record_of(found))
            elif (row := labels.row_of(found, roles or Roles())) is not None:
                rows.append(row)
            else:
                passed_over["rows about other models"] += 1
        except LabelError as error:
            raise DatasetError(f"{path}, line {number}: {error}.") from None
    rows += feedback.rows_of(records, passed_over)
    notes = tuple(f"{path.name}: passed over {count} {why}" for why, count in passed_over.items())
    if not rows:
        raise DatasetError("; ".join([f"{path} has no rows that could be used", *notes]) + ".")
    return Dataset(path.name, sha256_of(path), rows, notes)


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{path} cannot be read ({error.strerror}).") from None
    for number, line in enumerate(content.removeprefix(_BYTE_ORDER_MARK).splitlines(), start=1):
        if line.strip():
            yield number, line
