"""What one answer's rounds add up to."""

from __future__ import annotations

from collections import Counter

from weir.verifier.events import Delta, Source, Stats
from weir.verifier.speculation.planner import Outcome


class Tally:
    """Counts and times of one answer, round by round."""

    def __init__(self) -> None:
        self.rounds = 0
        self.drafted = 0
        self.accepted = 0
        self._passed_tokens = 0
        self._sent = Counter[Source]()
        self._lookup_drafted = self._lookup_accepted = 0
        self._judged: list[int] = []
        self._accepted: list[int] = []
        self._draft_s = self._verify_s = self._wait_s = 0.0

    def add(self, outcome: Outcome, skipped: int) -> None:
        """Take a round whose drafts begin ``skipped`` tokens into their chunk."""
        self.rounds += 1
        self.drafted += outcome.drafted
        self.accepted += outcome.accepted
        self._passed_tokens += outcome.fed
        self._draft_s += outcome.draft_s
        self._verify_s += outcome.verify_s
        self._wait_s += outcome.wait_s
        if outcome.method == "lookup":
            self._lookup_drafted += outcome.drafted
            self._lookup_accepted += outcome.accepted
        _count(self._judged, skipped, outcome.judged)
        _count(self._accepted, skipped, outcome.accepted)

    def sent(self, delta: Delta) -> None:
        """Take what went into the answer."""
        self._sent[delta.source] += len(delta.tokens)

    def stats(self, frontier_tokens: int, level: str) -> Stats:
        """Return it all; ``level`` is the one at which drafts were judged, if there were any."""
        return Stats(
            passes=self.rounds,
            passed_tokens=self._passed_tokens,
            draft_tokens=self._sent[Source.DRAFT],
            verifier_tokens=self._sent[Source.VERIFIER],
            frontier_tokens=frontier_tokens,
            lookup_drafted=self._lookup_drafted,
            lookup_accepted=self._lookup_accepted,
            judged_by_position=tuple(self._judged),
            accepted_by_position=tuple(self._accepted),
            draft_s=self._draft_s,
            verify_s=self._verify_s,
            wait_s=self._wait_s,
            level=level if self.drafted else "alone",
        )


def _count(positions: list[int], skipped: int, count: int) -> None:
    """Count tokens at the positions from ``skipped`` on."""
    end = skipped + count
    if count and len(positions) < end:
        positions.extend([0] * (end - len(positions)))
    for position in range(skipped, end):
        positions[position] += 1
