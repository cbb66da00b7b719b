"""Canary: a candidate decides for some requests, and is rolled back once its outcomes are worse."""

from __future__ import annotations

import math
from pathlib import Path

import msgspec
import structlog

from weir.common.config.routing import Canary
from weir.router.classifier.base import Question, Role
from weir.router.live.comparison import Outcomes, worse_evidence
from weir.router.live.sampling import drawn

log = structlog.get_logger(__name__)


class CanaryTrial:
    """One candidate against the classifier in force, by their outcomes.

    An outcome is good where the answer finished, kept its constraint, was not handed over, and nobody found
    it unacceptable. Named tenants always get the candidate, so nobody else is like them: their outcomes count
    only where there is no drawn share to compare.
    """

    def __init__(self, settings: Canary, present: str, candidate: str) -> None:
        self.revisions: dict[Role, str] = {"present": present, "canary": candidate}
        self.outcomes: dict[Role, Outcomes] = {"present": Outcomes(), "canary": Outcomes()}
        self._settings, self._tenants = settings, frozenset(settings.tenants)

    def takes(self, question: Question) -> bool:
        """Whether the candidate decides."""
        return question.tenant in self._tenants or drawn(question, self._settings.share, "canary")

    def observe(self, role: Role, revision: str, tenant: str, *, good: bool) -> str:
        """Count an outcome; return why the candidate has to go, empty where it may stay."""
        stale = revision != self.revisions[role]
        if stale or (tenant in self._tenants and self._settings.share > 0):
            return ""
        self.outcomes[role].add(good=good)
        return self._verdict()

    def _verdict(self) -> str:
        present, canary = self.outcomes["present"], self.outcomes["canary"]
        if min(present.total, canary.total) < self._settings.min_outcomes:
            return ""
        if worse_evidence(present, canary) < math.log(1 / self._settings.significance):
            return ""
        return f"{self.detail}; significance {self._settings.significance:g}"

    @property
    def detail(self) -> str:
        """What there is to tell, in words."""
        present, canary = self.outcomes["present"], self.outcomes["canary"]
        return (
            f"good answers: canary {canary.rate:.3f} of {canary.total}, "
            f"present {present.rate:.3f} of {present.total}"
        )


class RolledBack:
    """The candidates that had to go, with the reason; a revision once rolled back does not come again.

    Args:
        path: file that keeps them over a restart; nowhere where ``None``.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._reasons: dict[str, str] = {}

    @property
    def latest(self) -> str:
        """The revision that was rolled back last, empty where none was."""
        return next(reversed(self._reasons), "")

    def add(self, revision: str, reason: str) -> None:
        """Remember one."""
        self._reasons[revision] = reason
        log.warning("canary_rolled_back", revision=revision, reason=reason)

    def reason(self, revision: str) -> str:
        """Return why a revision was rolled back, empty where it was not."""
        return self._reasons.get(revision, "")

    def read(self) -> None:
        """Read the file; one that cannot be read counts as empty. Blocks."""
        if self._path is None or not self._path.exists():
            return
        try:
            self._reasons = msgspec.json.decode(self._path.read_bytes(), type=dict[str, str])
        except (OSError, msgspec.DecodeError) as error:
            log.warning("rolled_back_canaries_unreadable", path=str(self._path), error=str(error))

    def write(self) -> None:
        """Write the file, whole or not at all. Blocks."""
        if self._path is None:
            return
        staged = self._path.with_suffix(".new")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            staged.write_bytes(msgspec.json.encode(self._reasons))
            staged.replace(self._path)
        except OSError as error:
            log.warning("rolled_back_canaries_not_kept", path=str(self._path), error=str(error))
