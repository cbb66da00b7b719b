"""Labeled prompts: JSON lines with ``prompt, domain, weak_correct, strong_correct``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from weir.router.classifier.artifact import sha256_of

Bools = npt.NDArray[np.bool_]

# The sub-categories that MMLU's authors give its subjects (Hendrycks et al., arXiv 2009.03300).
_GROUPS = {
    "biology": "college_biology high_school_biology",
    "business": "business_ethics management marketing",
    "chemistry": "college_chemistry high_school_chemistry",
    "computer science": "college_computer_science computer_security high_school_computer_science "
    "machine_learning",
    "culture": "human_sexuality sociology",
    "economics": "econometrics high_school_macroeconomics high_school_microeconomics",
    "engineering": "electrical_engineering",
    "geography": "high_school_geography",
    "health": "anatomy clinical_knowledge college_medicine human_aging medical_genetics nutrition "
    "professional_medicine virology",
    "history": "high_school_european_history high_school_us_history high_school_world_history prehistory",
    "law": "international_law jurisprudence professional_law",
    "math": "abstract_algebra college_mathematics elementary_mathematics high_school_mathematics "
    "high_school_statistics gsm8k",
    "other": "global_facts miscellaneous professional_accounting",
    "philosophy": "formal_logic logical_fallacies moral_disputes moral_scenarios philosophy world_religions",
    "physics": "astronomy college_physics conceptual_physics high_school_physics",
    "politics": "high_school_government_and_politics public_relations security_studies us_foreign_policy",
    "psychology": "high_school_psychology professional_psychology",
}
_GROUP_OF = {subject: group for group, subjects in _GROUPS.items() for subject in subjects.split()}


class Row(msgspec.Struct, frozen=True):
    """One labeled prompt; further keys are ignored."""

    prompt: str
    weak_correct: bool
    strong_correct: bool
    domain: str = "unknown"
    source: str = ""


@dataclass(frozen=True)
class Dataset:
    """Rows of one file, in its order."""

    name: str
    sha256: str
    rows: Sequence[Row]

    @property
    def weak(self) -> Bools:
        """Whether the small model was right."""
        return np.array([row.weak_correct for row in self.rows])

    @property
    def strong(self) -> Bools:
        """Whether the strong model was right."""
        return np.array([row.strong_correct for row in self.rows])

    @property
    def subjects(self) -> npt.NDArray[np.str_]:
        """The subject of each row, for grouped cross-validation."""
        return np.array([row.domain for row in self.rows])

    @property
    def groups(self) -> npt.NDArray[np.str_]:
        """The group of subjects of each row; a subject that MMLU does not know is its own group."""
        return np.array([_GROUP_OF.get(row.domain, row.domain) for row in self.rows])

    @property
    def sources(self) -> npt.NDArray[np.str_]:
        """Where each row is from."""
        return np.array([row.source for row in self.rows])


class DatasetError(ValueError):
    """A file that cannot be used; the message names the line and what it should hold."""


def read(path: Path) -> Dataset:
    """Read a JSON-lines file. Raises DatasetError."""
    decode = msgspec.json.Decoder(Row).decode
    rows: list[Row] = []
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise DatasetError(f"{path} cannot be read ({error.strerror}).") from None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            rows.append(decode(line))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise DatasetError(
                f"{path}, line {number}: {error}; wanted: prompt, domain, weak_correct, strong_correct."
            ) from None
    if not rows:
        raise DatasetError(f"{path} has no rows.")
    return Dataset(path.name, sha256_of(path), rows)
