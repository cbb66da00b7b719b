"""The audit itself: a log in, a report out. No network, and nothing is kept."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from weir.common.config import Settings
from weir.router.audit import report
from weir.router.audit.masking import shown
from weir.router.audit.prices import PriceBook
from weir.router.audit.reading import Log
from weir.router.audit.report import Judged, Labels, Offer, Report
from weir.router.audit.weighing import Scales, Weighed, answer_tokens, assess
from weir.router.case import Bounds
from weir.router.classifier.base import PromptClassifier
from weir.router.classifier.model import Classifier
from weir.router.control.settings import home_bounds
from weir.router.replay.bar import highest
from weir.router.replay.scenario import ScenarioError, Target, at_bar

# Shares of today's quality that are offered, and the bars and prompts that are tried for them.
_KEPT = (0.99, 0.97, 0.95, 0.9, 0.8)
_BARS = 61
_LOWEST_BAR = 0.4
_MOST_TRIED = 2_000


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of an audit beside the configuration; ``answer_tokens`` where the log has no answers."""

    threshold: float | None = None
    target: Target | None = None
    answer_tokens: float | None = None
    examples: bool = True


def audit(
    path: Path,
    log: Log,
    classifier: PromptClassifier,
    labels: Labels,
    settings: Settings,
    book: PriceBook,
    question: Question,
    progress: Callable[[float], None],
) -> Report:
    """Judge and price every request of a log.

    Args:
        path: the log's, for its name.
        log: what was read of it.
        classifier: who judges.
        labels: what that learned from.
        settings: thresholds, policy, tiers.
        book: prices.
        question: what is asked beside.
        progress: told the share that is done.

    Raises:
        ScenarioError: a latency target, for which a log has no measurements.
        ConfigError: rules that cannot be followed.
    """
    bounds = _bounds(settings, question)
    expected = answer_tokens(log.entries) if question.answer_tokens is None else question.answer_tokens
    scales = Scales(settings, book, classifier.revision)
    judged = assess(classifier, log.entries, progress)

    async def weigh() -> list[Weighed]:
        return [await scales.weigh(entry, found, bounds, expected) for entry, found in judged]

    weighed = asyncio.run(weigh())
    bounds, rule = _settle(weighed, bounds, question.target)
    rows = [each.judged(bounds) for each in weighed]
    untold = any(row.entry.completion_tokens is None for row in rows)
    return _report(
        path, log, rows, labels, settings, book, question,
        rule=rule, offers=_offers(weighed, bounds), least=_least(rows, bounds),
        expected=expected if untold else None,
    )  # fmt: skip


def _bounds(settings: Settings, question: Question) -> Bounds:
    bounds = home_bounds(settings)
    if question.threshold is not None:
        return replace(bounds, mode="thresholds", complexity=question.threshold)
    target = question.target
    if target is None:
        return bounds
    if target.kind == "latency":
        raise ScenarioError(
            "A log has no latencies to hold; ask `weir router replay` over Weir's own receipts."
        )
    bar = target.value if target.kind == "quality" else bounds.quality
    return at_bar(target, bar).change(bounds)


def _settle(weighed: Sequence[Weighed], bounds: Bounds, target: Target | None) -> tuple[Bounds, str]:
    """Return the bounds in force and what they are, for people; a cost is held by moving the quality bar."""
    if bounds.mode == "thresholds":
        rule = f"thresholds (complexity {bounds.complexity:g}, confidence {bounds.confidence:g})"
        return bounds, rule
    if target is None or target.kind != "cost":
        return bounds, f"the cheapest tier with an expected quality of {bounds.quality:g}"

    def mean_cost(value: float) -> float:
        under = replace(bounds, quality=value)
        return sum(each.judged(under).weir_usd for each in weighed) / len(weighed)

    bar = highest(mean_cost, target.value)
    reached = "holds" if bar.met else f"comes nearest (${bar.metric:.6f}) to"
    rule = f"a dearer tier has to add {1 - bar.value:.3f} to the expected quality, which {reached}"
    return replace(bounds, quality=bar.value), f"{rule} ${target.value:g} per query"


def _offers(weighed: Sequence[Weighed], bounds: Bounds) -> list[Offer]:
    """Return what there is to choose from: the least money that keeps so much of today's quality.

    It is spent where it gains most, as a cost target does.
    """
    sample = weighed[:: -(-len(weighed) // _MOST_TRIED)]
    tried = []
    for bar in np.linspace(_LOWEST_BAR, 1.0, _BARS):
        under = replace(bounds, mode="cost", quality=float(bar))
        tried.append(report.group([each.judged(under) for each in sample], len(sample)))
    found: dict[float, Offer] = {}
    for kept in _KEPT:
        enough = [all_ for all_ in tried if all_.quality >= kept * all_.quality_today]
        if enough and enough[0].today_usd > 0:
            best = min(enough, key=lambda all_: (all_.weir_usd, -all_.quality))
            found.setdefault(best.weir_usd, _offer(best, len(weighed) / len(sample)))
    return list(found.values())


def _offer(all_: report.Group, scale: float) -> Offer:
    return Offer(
        cost_usd=all_.weir_usd / all_.prompts,
        kept=all_.quality / all_.quality_today if all_.quality_today else 0.0,
        weir_usd=all_.weir_usd * scale,
        saved=all_.saved_usd / all_.today_usd,
        tiers=all_.tiers,
    )


def _least(rows: Sequence[Judged], bounds: Bounds) -> tuple[float, float] | None:
    """Return a quality target with the least share to escalate for it, (mu - a) / (1 - a).

    The small model is wrong on a share mu, a share a of wrong answers is tolerated, the others are perfect.
    """
    if bounds.mode != "quality" or bounds.quality <= 0:
        return None
    wrong = sum(row.assessment.complexity for row in rows) / len(rows)
    tolerated = 1 - bounds.quality
    return bounds.quality, max(0.0, (wrong - tolerated) / (1 - tolerated))


def _report(
    path: Path,
    log: Log,
    rows: Sequence[Judged],
    labels: Labels,
    settings: Settings,
    book: PriceBook,
    question: Question,
    *,
    rule: str,
    offers: list[Offer],
    least: tuple[float, float] | None,
    expected: float | None,
) -> Report:
    total = report.group(rows, len(rows))
    pace, none = report.extrapolate(total, log.total / len(rows), log.first_at, log.last_at)
    bases, unpriced = report.price_bases(rows, book)
    tiers = settings.tiers
    return Report(
        file=path.name,
        form=log.kind.value,
        encoding=log.encoding,
        rows=log.total,
        judged=len(rows),
        unusable=log.unusable,
        problems=log.problems,
        flawed=log.flawed,
        flaws=log.flaws,
        rule=rule,
        classifier=labels,
        total=total,
        tiers=report.by_tier(rows),
        domains=report.by_domain(rows),
        offers=offers,
        examples=report.examples(rows, shown) if question.examples else {},
        estimated_tokens=sum(row.entry.estimated or row.entry.completion_tokens is None for row in rows),
        answer_tokens=expected,
        price_bases=bases,
        unpriced_models=unpriced,
        fallback_price=book.fallback.basis,
        local_usd_per_million={
            "slm": [tiers.slm.run.input_usd_per_million, tiers.slm.run.output_usd_per_million],
            "hybrid": [tiers.hybrid.run.input_usd_per_million, tiers.hybrid.run.output_usd_per_million],
        },
        refusals=dict(Counter(row.refusal for row in rows if row.tier is None)),
        personal_data=dict(Counter(kind for row in rows for kind in sorted(row.personal_data))),
        same_local_model=tiers.slm.model_id == tiers.hybrid.verifier_model,
        target_quality=least[0] if least else None,
        least_escalated=least[1] if least else None,
        extrapolation=pace,
        no_extrapolation=none,
    )


def labels_of(classifier: Classifier) -> Labels:
    """Return whose answers an artifact learned from."""
    data = classifier.metadata.data
    return Labels(classifier.revision, data.name, data.rows, data.weak_model, data.strong_model)
