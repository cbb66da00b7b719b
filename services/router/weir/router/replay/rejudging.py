"""Recorded cases as another classifier would have seen them, where the prompts were kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from weir.router.case import Case, Estimate
from weir.router.classifier.base import Assessment, PromptClassifier
from weir.router.domain import Tier
from weir.router.replay.trace import Trace
from weir.router.signals.gain import added_quality

BATCH = 32


class RejudgingError(ValueError):
    """A trace without prompts; the message says how to get one with them."""


@dataclass(frozen=True, slots=True)
class Rejudged:
    """The part of a trace that has prompts, and for each of its episodes the new case."""

    trace: Trace
    cases: Sequence[Case]
    revision: str


def rejudge(trace: Trace, classifier: PromptClassifier, recovered_gain: float) -> Rejudged:
    """Judge all kept prompts anew. ``recovered_gain`` is ``tiers.hybrid.recovered_gain``.

    What rules, adapters and tenants made of the old judgment stays as it was recorded.

    Raises:
        RejudgingError: no prompts were kept.
    """
    episodes = tuple(episode for episode in trace.episodes if episode.prompt is not None)
    if not episodes:
        raise RejudgingError(
            f"{trace.name} holds no prompts, which another classifier has to read: they are kept only with "
            "state.receipts.store_prompts: true. Other thresholds can be replayed without them."
        )
    texts = [episode.prompt or "" for episode in episodes]
    judged = _assess(classifier, texts)
    cases = [
        _case(episode.case, judged[text], recovered_gain)
        for episode, text in zip(episodes, texts, strict=True)
    ]
    left_out = len(trace.episodes) - len(episodes)
    notes = (
        (*trace.notes, f"{left_out:,} decisions without a kept prompt are left out")
        if left_out
        else trace.notes
    )
    return Rejudged(replace(trace, episodes=episodes, notes=notes), cases, classifier.revision)


def _assess(classifier: PromptClassifier, texts: Sequence[str]) -> dict[str, Assessment]:
    ranked = sorted(set(texts), key=len)
    found: dict[str, Assessment] = {}
    for start in range(0, len(ranked), BATCH):
        batch = ranked[start : start + BATCH]
        found.update(zip(batch, classifier.assess(batch), strict=True))
    return found


def _case(case: Case, judged: Assessment, recovered_gain: float) -> Case:
    added = added_quality(judged.gain, recovered_gain)
    estimates = {
        tier: _estimate(estimate, judged, 0.0 if _is_stand_in(case, tier) else added.get(tier, 0.0))
        for tier, estimate in case.estimates.items()
    }
    return replace(case, complexity=judged.complexity, gain=judged.gain, estimates=estimates)


def _estimate(old: Estimate, judged: Assessment, added: float) -> Estimate:
    return replace(old, quality=min(1.0, max(0.0, 1 - judged.complexity + added)))


def _is_stand_in(case: Case, tier: Tier) -> bool:
    """Whether nothing was expected of a dearer tier although there was something to gain."""
    alone = case.estimates.get(Tier.SLM)
    return (
        alone is not None and tier is not Tier.SLM and case.gain > 0 and alone.quality < 1
        and case.estimates[tier].quality == alone.quality
    )  # fmt: skip
