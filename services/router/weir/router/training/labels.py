"""Labels of three kinds, one JSON object a line, all turned into the same rows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec

Positive = Annotated[float, msgspec.Meta(gt=0)]
WANTED = (
    "wanted: prompt, domain, weak_correct, strong_correct; or prompt and models {name: true or false}; "
    "or prompt, model_a, model_b and winner; or a receipt"
)
_WINNERS: dict[str, Literal["a", "b", "tie", "neither"]] = {
    "a": "a",
    "model_a": "a",
    "b": "b",
    "model_b": "b",
    "tie": "tie",
    "tie (bothbad)": "neither",
    "both_bad": "neither",
}


class LabeledRow(msgspec.Struct, frozen=True):
    """One labeled prompt; further keys are ignored.

    ``None`` where it is not known whether that model's answer would do: feedback tells of one model alone.
    ``weight`` is how much the row counts in training, relative to 1.
    """

    prompt: str
    weak_correct: bool | None
    strong_correct: bool | None
    domain: str = "unknown"
    source: str = ""
    weight: Positive = 1.0

    @property
    def complete(self) -> bool:
        """Whether both models' outcomes are known."""
        return self.weak_correct is not None and self.strong_correct is not None


@dataclass(frozen=True, slots=True)
class Roles:
    """The names under which the weak and the strong model stand in a file; several may share a role."""

    weak: tuple[str, ...] = ()
    strong: tuple[str, ...] = ()

    def check(self, found: str) -> None:
        """Raise LabelError unless both roles are named, each model once."""
        if not self.weak or not self.strong:
            raise LabelError(f"it names models ({found}); say which is which with --weak and --strong")
        if both := sorted(set(self.weak) & set(self.strong)):
            raise LabelError(f"{', '.join(both)} cannot be both the weak and the strong model")


class LabelError(ValueError):
    """A line that is no label; the message says what it should hold."""


class _Outcomes(msgspec.Struct, frozen=True):
    prompt: str
    models: dict[str, bool]
    domain: str = "unknown"
    source: str = ""
    weight: Positive = 1.0


class _Preference(msgspec.Struct, frozen=True):
    prompt: str
    model_a: str
    model_b: str
    winner: str
    domain: str = "unknown"
    source: str = ""
    weight: Positive = 1.0


def parse(line: bytes) -> Mapping[str, Any]:
    """Return the line's JSON object. Raises LabelError."""
    try:
        found = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise LabelError(f"{error}; {WANTED}") from None
    if not isinstance(found, dict):
        raise LabelError(f"it is no JSON object; {WANTED}")
    return found


def row_of(found: Mapping[str, Any], roles: Roles) -> LabeledRow | None:
    """Read a line about one prompt, of whichever kind; ``None`` where it is about other models only.

    Raises LabelError.
    """
    kinds = {"models": _from_outcomes, "winner": _from_preference}
    read = next((read for key, read in kinds.items() if key in found), _from_correctness)
    try:
        row = read(found, roles)
    except msgspec.ValidationError as error:
        raise LabelError(f"{error}; {WANTED}") from None
    if row is not None:
        check(row)
    return row if row and (row.weak_correct is not None or row.strong_correct is not None) else None


def check(row: LabeledRow) -> None:
    """Raise LabelError for an empty prompt, one that is no Unicode text, or an unusable weight."""
    if not row.prompt.strip():
        raise LabelError("its prompt is empty")
    if any("\ud800" <= character <= "\udfff" for character in row.prompt):
        raise LabelError("its prompt holds half a surrogate pair, which no UTF-8 text can")
    if not math.isfinite(row.weight):
        raise LabelError("its weight is not finite")


def _from_correctness(found: Mapping[str, Any], roles: Roles) -> LabeledRow:
    del roles
    return msgspec.convert(found, LabeledRow)


def _from_outcomes(found: Mapping[str, Any], roles: Roles) -> LabeledRow:
    row = msgspec.convert(found, _Outcomes)
    roles.check(", ".join(sorted(row.models)))
    weak, strong = (
        next((row.models[name] for name in names if name in row.models), None)
        for names in (roles.weak, roles.strong)
    )
    return LabeledRow(row.prompt, weak, strong, row.domain, row.source, row.weight)


def _from_preference(found: Mapping[str, Any], roles: Roles) -> LabeledRow | None:
    """A lost comparison counts as a wrong answer, so the strong one gains 1, 0 or -1 for a win, tie or loss.

    RouteLLM (arXiv 2406.18665, section 3) learns from the same wins.
    """
    row = msgspec.convert(found, _Preference)
    roles.check(f"{row.model_a}, {row.model_b}")
    if (winner := _WINNERS.get(row.winner)) is None:
        raise LabelError(f"winner is none of {', '.join(_WINNERS)}")
    match (row.model_a in roles.weak, row.model_b in roles.strong):
        case (True, True):
            weak_won, strong_won = winner == "a", winner == "b"
        case _ if row.model_b in roles.weak and row.model_a in roles.strong:
            weak_won, strong_won = winner == "b", winner == "a"
        case _:
            return None
    tied = winner == "tie"
    return LabeledRow(row.prompt, weak_won or tied, strong_won or tied, row.domain, row.source, row.weight)
