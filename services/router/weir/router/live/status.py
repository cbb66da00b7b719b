"""What there is to say of each classifier (``ClassifierStatus`` in router.proto)."""

from __future__ import annotations

from dataclasses import dataclass

from weir.router.classifier.arm import Tally
from weir.router.live.canary import CanaryTrial, RolledBack
from weir.router.live.reload import Slot
from weir.router.live.shadow import Shadow


@dataclass(frozen=True, slots=True)
class ClassifierReport:
    """Counts are of prompts since the start; ``agreement`` is 0 before the first comparison."""

    role: str
    revision: str
    judged: int = 0
    cached: int = 0
    fallbacks: int = 0
    agreement: float = 0.0
    detail: str = ""


def deciding(slot: Slot, revision: str, tally: Tally) -> ClassifierReport:
    """Report the classifier in force or the cascade's."""
    return ClassifierReport(
        slot.name, revision, tally.judged, tally.cached, tally.fallbacks, detail=_refused(slot)
    )


def shadow(slot: Slot, revision: str, comparing: Shadow | None) -> ClassifierReport:
    """Report a shadow: what it judged, and how far it agrees."""
    if comparing is None:
        return ClassifierReport(slot.name, revision, detail=_refused(slot))
    seen = comparing.agreement
    detail = _joined(comparing.detail, _refused(slot))
    return ClassifierReport(slot.name, revision, seen.compared, agreement=seen.share, detail=detail)


def canary(
    slot: Slot,
    revision: str,
    tally: Tally,
    trial: CanaryTrial | None,
    mirror: Shadow | None,
    gone: RolledBack,
) -> ClassifierReport:
    """Report a canary, or the one that was rolled back last."""
    counts = (tally.judged, tally.cached, tally.fallbacks)
    if trial is None or mirror is None:
        role = "rolled_back" if gone.latest else slot.name
        detail = _joined(gone.reason(gone.latest), _refused(slot))
        return ClassifierReport(role, gone.latest or revision, *counts, detail=detail)
    detail = _joined(trial.detail, _refused(slot))
    return ClassifierReport(slot.name, revision, *counts, mirror.agreement.share, detail)


def _refused(slot: Slot) -> str:
    return f"refused: {slot.refused}" if slot.refused else ""


def _joined(*parts: str) -> str:
    return "; ".join(part for part in parts if part)
