"""Which subjects the prompt belongs to, by the classifier; several may hold at once."""

from __future__ import annotations

from weir.router.classifier.base import DomainShare
from weir.router.signals.base import Observation, Written

# Probability from which a subject counts, where a rule sets no other.
DOMAIN_CUT = 0.5


class Domains:
    """All subjects that the classifier names, likeliest first; those past the cut are written."""

    name = "domain"

    def read(self, seen: Observation) -> tuple[DomainShare, ...]:  # noqa: D102
        return seen.judgment.assessment.domains

    def write(self, reading: tuple[DomainShare, ...]) -> Written:  # noqa: D102
        likely = ",".join(domain.name for domain in reading if domain.probability >= DOMAIN_CUT)
        return ((self.name, likely),) if likely else ()
