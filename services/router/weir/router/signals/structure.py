"""Whether structured output is asked for, and of which kind."""

from __future__ import annotations

from weir.router.signals.base import Observation, Written


class Structure:
    """The kind of output constraint, ``None`` without one."""

    name = "constraint"

    def read(self, seen: Observation) -> str | None:  # noqa: D102
        return seen.facts.constraint

    def write(self, reading: str | None) -> Written:  # noqa: D102
        return ((self.name, reading),) if reading else ()
