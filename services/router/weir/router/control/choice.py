"""The choice as the controller asks for it: who would answer."""

from __future__ import annotations

from weir.router.case import Bounds, Case
from weir.router.domain import Tier
from weir.router.selection import select


def chosen(case: Case, bounds: Bounds) -> Tier | None:
    """Return the tier that ``selection.select`` puts first, ``None`` where none may answer."""
    order = select(case, bounds).order
    return order[0] if order else None
