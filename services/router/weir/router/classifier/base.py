"""What a classifier says of a prompt, and the two forms in which one is asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

Role = Literal["present", "canary"]
# Who judged: the first classifier, the larger one behind it, a kept judgment, or nobody in time.
JudgedBy = Literal["classifier", "cascade", "cache", "prior"]


@dataclass(frozen=True, slots=True)
class DomainShare:
    """A subject and the probability that the prompt belongs to it; several may hold at once."""

    name: str
    probability: float


@dataclass(frozen=True, slots=True)
class Assessment:
    """What a classifier says about one prompt.

    Attributes:
        complexity: calibrated probability that the small model's answer would not do, 0 to 1.
        gain: expected quality that the strong model adds: P(strong right) - P(small right), -1 to 1. Prompts
            that no model answers have a high complexity and hardly a gain; routing by it is what pays.
        tokens: the prompt's length in the classifier's own tokens, untruncated.
        domains: the subjects, likeliest first.
        doubtful: whether the conformal bound leaves both outcomes open (see ``cascade``).
    """

    complexity: float
    gain: float
    tokens: int
    domains: tuple[DomainShare, ...]
    doubtful: bool = False

    @property
    def confidence(self) -> float:
        """Probability of the likelier outcome, 0.5 to 1: how sure it is, whichever way it leans."""
        return max(self.complexity, 1.0 - self.complexity)


class PromptClassifier(Protocol):
    """One artifact, loaded. ``assess`` blocks and may be called from any thread."""

    @property
    def revision(self) -> str: ...  # noqa: D102
    @property
    def prior(self) -> Assessment:
        """What holds of a prompt of which nothing is known: the means over the training rows."""
        ...

    def assess(self, texts: Sequence[str]) -> list[Assessment]: ...  # noqa: D102


# Loads and warms an artifact, the packaged one where no folder is given; blocks. Raises WeirError.
LoadClassifier = Callable[[Path | None], PromptClassifier]


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt to judge.

    ``key`` is stable for a request (its id): it draws the canary's share. Of a question without ``keep``
    (no_store) nothing is remembered, not even its judgment.
    """

    text: str
    tenant: str = ""
    key: str = ""
    keep: bool = True


@dataclass(frozen=True, slots=True)
class Judgment:
    """An assessment with who gave it. ``note`` says why a prior stands in (``classifier_slow``, ...)."""

    assessment: Assessment
    revision: str
    by: JudgedBy = "classifier"
    role: Role = "present"
    note: str = ""


class Judge(Protocol):
    """What the planner asks: a component that never fails for the classifier's sake."""

    async def start(self) -> None: ...  # noqa: D102
    async def aclose(self) -> None: ...  # noqa: D102
    async def judge(self, question: Question) -> Judgment: ...  # noqa: D102
