"""Which ends of answers and which feedback count for or against the classifier that decided."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.receipts_samples import FACTS, decision
from weir.router.classifier.base import Role
from weir.router.live.outcomes import Outcomes
from weir.router.progress import Progress
from weir.router.receipts.convert import Feedback, decision_record


class Seen:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.outcomes: list[tuple[Role, str, bool, str]] = []

    def observe_outcome(self, role: Role, revision: str, *, good: bool, tenant: str = "") -> None:
        self.outcomes.append((role, revision, good, tenant))


@pytest.mark.parametrize(
    ("how", "progress", "good"),
    [
        ("finished", Progress(), True),
        ("finished", Progress(valid=True), True),
        ("finished", Progress(valid=False), False),
        ("finished", Progress(handovers=1), False),
        ("ENGINE_CRASHED", Progress(), False),
    ],
    ids=["finished", "kept its constraint", "broke its constraint", "handed over", "failed"],
)
def test_an_answer_counts_by_how_it_ended(how: str, progress: Progress, good: bool) -> None:
    seen = Seen()
    Outcomes(seen).answered(decision(), how, progress, "acme")
    assert seen.outcomes == [("present", "r1", good, "acme")]


def test_a_cancelled_answer_counts_for_nobody() -> None:
    seen = Seen()
    Outcomes(seen).answered(decision(), "cancelled", Progress(), "acme")
    assert seen.outcomes == []


@pytest.mark.parametrize("role", ["present", "canary"])
def test_feedback_counts_for_the_classifier_that_decided(role: Role) -> None:
    seen, made = Seen(), decision()
    made = replace(made, judgment=replace(made.judgment, role=role))
    record = decision_record(made, FACTS, request_id="q", tenant="acme", at=1.0, prompt=None, generated=True)
    Outcomes(seen).labeled(record, Feedback(acceptable=False, score=None))
    assert seen.outcomes == [(role, "r1", False, "acme")]


def test_a_score_alone_says_nothing() -> None:
    seen = Seen()
    record = decision_record(
        decision(), FACTS, request_id="q", tenant="", at=1.0, prompt=None, generated=True
    )
    Outcomes(seen).labeled(record, Feedback(acceptable=None, score=3.0))
    assert seen.outcomes == []
