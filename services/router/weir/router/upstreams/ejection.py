"""Whether a replica may be used: a circuit that opens on failures and closes on proof of health. Pure."""

from __future__ import annotations

from dataclasses import dataclass

FAILURES_TO_EJECT = 3
FIRST_EJECTION_S = 1.0
LONGEST_EJECTION_S = 30.0


@dataclass(slots=True)
class Circuit:
    """Counts consecutive failures; times are on the caller's clock, in seconds.

    An ejected replica stays out until its time is over and a health probe succeeds. It is then on probation:
    the next failure ejects it again, for twice as long.
    """

    failures: int = 0
    ejections: int = 0
    ejected_until: float | None = None

    @property
    def ejected(self) -> bool:
        """Whether the replica is out."""
        return self.ejected_until is not None

    def succeeded(self) -> None:
        """Note a success; all is forgotten, unless the replica is out."""
        if not self.ejected:
            self.failures = self.ejections = 0

    def failed(self, now: float) -> bool:
        """Note a failure and return whether it ejects the replica."""
        if self.ejected:
            return False
        self.failures += 1
        if self.failures < FAILURES_TO_EJECT:
            return False
        self.ejected_until = now + min(FIRST_EJECTION_S * 2**self.ejections, LONGEST_EJECTION_S)
        self.ejections += 1
        return True

    def readmit(self) -> None:
        """Let the replica in again, on probation."""
        self.ejected_until = None
        self.failures = FAILURES_TO_EJECT - 1
