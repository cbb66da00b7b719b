"""The rounds of an answer whose units are judged whole: planned as any other, but for one token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from weir.verifier.speculation.knowledge import Knowledge
from weir.verifier.speculation.planner import Limits, Outcome, Pace


class UnitPace(Pace):
    """A ``Pace`` whose verifier adds no token behind a unit that stands: it would write into the next one."""

    def __init__(
        self, knowledge: Knowledge, limits: Limits, left: int, prompt_ids: Sequence[int] = ()
    ) -> None:
        super().__init__(knowledge, limits, left, prompt_ids)
        self.plan = replace(self.plan, bonus=False)

    def advance(self, outcome: Outcome, left: int) -> None:
        """Take a round, and plan the next one of an answer that may have ``left`` more tokens."""
        super().advance(outcome, left)
        self.plan = replace(self.plan, bonus=False)
